"""A GPU that is none: tensors that say they are on "cuda" and refuse to meet those of the CPU, as
there, while they compute on the CPU. Unlike fake tensors they have values, so all code can run.
"""

from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

CUDA = torch.device("cuda")
FREE = torch.Tensor.copy_, torch._has_compatible_shallow_copy_type  # may mix
INDEXING = torch.Tensor.__getitem__, torch.Tensor.__setitem__
ARRAYS = torch.Tensor.numpy, torch.Tensor.__array__


class Elsewhere(torch.Tensor):
    """A tensor of the GPU."""

    device, is_cuda = property(lambda self: CUDA), property(lambda self: True)

    def __deepcopy__(self, memo):
        return memo.setdefault(id(self), self.detach().clone().requires_grad_(self.requires_grad))

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        parts = args[:1] + args[2:] if function in INDEXING else args
        parts = [part for part in tree_leaves((parts, kwargs)) if isinstance(part, torch.Tensor)]
        with torch._C.DisableTorchFunctionSubclass():
            # a number, which has no dimension, may meet a tensor anywhere
            mixed = {type(part) is cls for part in parts if part.dim() or type(part) is cls}
        here = function in INDEXING and not isinstance(args[0], cls)
        if function not in FREE and (len(mixed) > 1 or here):
            raise RuntimeError(f"Expected all tensors to be on the same device: {function}")
        if function in ARRAYS:
            raise TypeError("can't convert cuda device type tensor to numpy")
        out = super().__torch_function__(function, types, args, kwargs)
        if function in FREE:  # a module has to replace its weights
            return args[0] if function is torch.Tensor.copy_ else False
        if function is torch.Tensor.cpu:
            return out.as_subclass(torch.Tensor)
        if function == torch.Tensor.grad.__get__ and out is not None:
            return there(out)
        for x in tree_leaves(out):
            if isinstance(x, cls):
                there(x)
        return out


def there(x):
    """A tensor as one of the GPU; those of Apple take no float64."""
    with torch._C.DisableTorchFunctionSubclass():
        if x.dtype == torch.float64:
            raise TypeError("float64 is not on every device: MPS has none")
        return x.as_subclass(Elsewhere)


class Placing(TorchFunctionMode):
    """What makes tensors on a device, or brings them there."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        place, moves = place_of(kwargs.get("device")), function is torch.Tensor.to
        if place:
            kwargs["device"] = "cpu"
            if place != torch.device("cpu") and kwargs.get("generator"):
                raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        if moves:
            x, *rest = args
            places = [each for each in map(place_of, rest) if each]
            place = places[0] if places else place or x.device
            args = (
                x.as_subclass(torch.Tensor),
                *("cpu" if place_of(part) else part for part in rest),
            )
        out = function(*args, **kwargs)
        if place and place.type == "cuda":
            out = tree_map_only(torch.Tensor, there, out)
        return out


def place_of(value):
    """The device that an argument names, or None."""
    if isinstance(value, torch.Tensor):
        return value.device
    return torch.device(value) if isinstance(value, (str, torch.device)) else None


@contextmanager
def a_gpu():
    """Here "cuda" is such a device, and the one that is taken where none is named."""
    empty = torch.empty
    unpinned = lambda *args, pin_memory=False, **kwargs: empty(*args, **kwargs)
    with (
        patch("torch.empty", unpinned),
        patch("vjepa_utils.model.devices.free_memory", lambda device: 2**40),
        patch("vjepa_utils.actions.heads.best_device", lambda: "cuda"),
        Placing(),
    ):
        yield
