"""Squared gradients of a model's weights or of its layers' outputs, call by call, without keeping any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from workbench.live.model.modules import kind_of
from workbench.live.model.weights import require_weights

Now = Callable[[], int]
"""The bucket of the call that is under way."""


class WeightGradients:
    """‖∂s/∂W‖² of every layer for each call's own use of its weight, and for all calls together.

    Each call of the model gets weights of its own (the same memory, another leaf of the graph), so that what comes
    back belongs to that call. A gradient is squared and added up the moment it is there, then dropped.

    Parameters
    ----------
    modules : mapping of str to torch.nn.Module
        The layers.
    buckets : int
    coherent : bool
        Also add the gradients of a run's calls, which takes as much memory as float32 weights.
    deltas : mapping, optional
        Changes of weights, by layer and any key; the inner products with the gradients are squared too, those of one
        key as one.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        buckets: int,
        coherent: bool,
        deltas: Mapping[tuple[str, Any], Tensor] | None = None,
    ) -> None:
        self._modules = modules
        self._coherent = coherent
        self._deltas: dict[str, dict[Any, Tensor]] = {}
        for (name, key), delta in (deltas or {}).items():
            self._deltas.setdefault(name, {})[key] = delta
        self._sums: dict[str, Tensor] = {}
        self._dots: dict[Any, float] = {}
        self.by_call = {name: [0.0] * buckets for name in modules}
        self.by_run = dict.fromkeys(modules, 0.0)
        self.along = dict.fromkeys((key for _, key in deltas or {}), 0.0)

    @contextmanager
    def watching(self, model: nn.Module, now: Now) -> Iterator[None]:
        """Give every call of the model weights of its own; afterwards all is as it was."""
        require_weights(self._modules, "followed by gradients", own=True)
        originals = {name: module._parameters["weight"] for name, module in self._modules.items()}
        # An output projection may share the weight of an embedding: an error in it is felt in both.
        sharing = {
            name: [one for one in model.modules() if one._parameters.get("weight") is weight]
            for name, weight in originals.items()
        }

        def renew(*_: Any) -> None:
            bucket = now()
            for name, weight in originals.items():
                assert weight is not None
                leaf = weight.detach().requires_grad_()
                leaf.register_post_accumulate_grad_hook(partial(self._take, name, bucket))
                for module in sharing[name]:
                    module._parameters["weight"] = leaf

        handle = model.register_forward_pre_hook(renew)
        try:
            yield
        finally:
            handle.remove()
            for name, weight in originals.items():
                for module in sharing[name]:
                    module._parameters["weight"] = weight

    def _take(self, name: str, bucket: int, leaf: Tensor) -> None:
        gradient = leaf.grad
        leaf.grad = None
        if gradient is None:
            return
        gradient = gradient.detach().float()
        self.by_call[name][bucket] += float(gradient.square().sum())
        if self._coherent:
            self._sums[name] = self._sums[name] + gradient if name in self._sums else gradient
        for key, delta in self._deltas.get(name, {}).items():
            dot = float((gradient * delta.to(gradient.device).reshape(gradient.shape)).sum())
            self._dots[key] = self._dots.get(key, 0.0) + dot

    def end_run(self) -> None:
        """All calls of a run have been gone back through."""
        for name, total in self._sums.items():
            self.by_run[name] += float(total.square().sum())
        for key, dot in self._dots.items():
            self.along[key] += dot**2
        self._sums.clear()
        self._dots.clear()


class OutputGradients:
    """‖∂s/∂y_l‖²·E‖x_l‖² of every layer's output y_l for each call.

    What white weight noise would do if the errors it makes at different positions had nothing to do with one another.
    """

    def __init__(self, modules: Mapping[str, nn.Module], buckets: int) -> None:
        self._modules = modules
        self.by_call = {name: [0.0] * buckets for name in modules}

    @contextmanager
    def watching(self, model: nn.Module, now: Now) -> Iterator[None]:
        """Watch the outputs of all layers."""

        def see(name: str, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor | None:
            if not torch.is_grad_enabled():
                return None
            # The first layers have no graph behind them: a zero that asks for a gradient begins it.
            started = output if output.requires_grad else output + output.new_zeros(()).requires_grad_()
            power, bucket = _input_power(module, args[0] if args else kwargs["input"]), now()

            def take(gradient: Tensor) -> None:
                self.by_call[name][bucket] += power * float(gradient.float().square().sum())

            started.register_hook(take)
            return started

        handles = [
            module.register_forward_hook(partial(see, name), with_kwargs=True)
            for name, module in self._modules.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def end_run(self) -> None:
        """Nothing is kept of a run."""


def _input_power(module: Any, given: Tensor) -> float:
    """Mean of ‖x‖² over the input vectors that a row of the weight is multiplied with."""
    match kind_of(module):
        case "embedding":
            return 1.0
        case "conv":
            taps = module.weight[0].numel()
            return float(given.detach().float().square().mean() * taps)
        case _:
            return float(given.detach().float().square().mean() * given.shape[-1])


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter of the model asks for gradients; afterwards they ask as before."""
    asked = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    for parameter, _ in asked:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, before in asked:
            parameter.requires_grad_(before)


@contextmanager
def checkpointed(model: nn.Module) -> Iterator[None]:
    """Keep only the inputs of each call of the model, and compute it again on the way back."""
    original = model.forward
    own = "forward" in vars(model)

    @wraps(original)  # the clock reads the arguments' names
    def forward(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(original, *args, use_reentrant=False, **kwargs)

    model.forward = forward
    try:
        yield
    finally:
        if own:
            model.forward = original
        else:
            del model.forward
