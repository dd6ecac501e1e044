"""The names of the devices."""

import torch

CPU = torch.device("cpu")
# torch's name for a device that is registered from outside; from then on it prints as pretend:0.
DEVICE = torch.device("privateuseone", 0)
