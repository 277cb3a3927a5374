"""CIFAR-100 (Krizhevsky, 2009): 50,000 + 10,000 images of 32 px in 100 classes."""

from sslkit.data.prepare.cifar import CifarSource


class Cifar100(CifarSource):
    """torchvision's CIFAR100, downloaded or from ``--root``."""

    dataset = "CIFAR100"
    dataset_classes = 100
