"""CIFAR-10 (Krizhevsky, 2009): 50,000 + 10,000 images of 32 px in 10 classes."""

from sslkit.data.prepare.cifar import CifarSource


class Cifar10(CifarSource):
    """torchvision's CIFAR10, downloaded or from ``--root``."""

    dataset = "CIFAR10"
    dataset_classes = 10
