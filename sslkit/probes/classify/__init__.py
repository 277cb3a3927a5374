"""Classifiers on frozen features: k-NN, few-shot, linear."""
