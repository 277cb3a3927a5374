"""The moving average of a student."""

import torch
from torch import nn

from sslkit.ema import MovingAverage
from sslkit.schedules import Moment


def test_shared_parameters_are_averaged_once_and_buffers_are_copied():
    first, second = (nn.Sequential(layer := nn.Linear(2, 2), layer, nn.BatchNorm1d(2)) for _ in range(2))
    before, student = first[0].weight.clone(), second[0].weight
    second[2].running_mean.fill_(3.0)
    MovingAverage(first, second).update(0.75)
    torch.testing.assert_close(first[0].weight, 0.75 * before + 0.25 * student)
    assert torch.equal(first[2].running_mean, torch.full((2,), 3.0))


def test_it_follows_modules_that_moved_to_other_tensors():
    teacher, student = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    average = MovingAverage(teacher, student)
    for module in (teacher, student):
        module.double()  # new buffers, as on another device
    student.running_var.fill_(5.0)
    average.update(0.5)
    assert torch.equal(teacher.running_var, student.running_var)


def test_a_share_of_the_run_makes_longer_runs_average_over_more_steps():
    for steps, momentum in ((100, 0.8), (1000, 0.98), (10, 0.0)):  # 5 % of 10 steps are less than one
        teacher, student = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        nn.init.ones_(teacher.weight), nn.init.zeros_(student.weight)
        MovingAverage(teacher, student).follow(("5%", "5%"), Moment(step=1, steps_per_epoch=steps // 2, epochs=2))
        torch.testing.assert_close(teacher.weight.item(), momentum)


def test_a_share_and_a_number_are_the_two_ends_of_a_cosine():
    teacher, student = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.ones_(teacher.weight), nn.init.zeros_(student.weight)
    MovingAverage(teacher, student).follow(("10%", 1.0), Moment(step=50, steps_per_epoch=100, epochs=1))
    torch.testing.assert_close(teacher.weight.item(), 0.95)  # half-way from 0.9 to 1
