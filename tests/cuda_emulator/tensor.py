"""CPU tensors that report the device cuda:0, and their operations."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from tests.cuda_emulator.state import GPU, Block, SyncInCapture, current_stream

DEVICE = torch.device("cuda", 0)
aten = torch.ops.aten

# Operations that synchronize, since the host needs a value or a size.
_SYNCHRONIZING = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::equal",
    "aten::is_nonzero",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::bincount",
    "aten::_assert_async",
}
# Kernels that modify running statistics, which their schema does not declare.
_HIDDEN_WRITES = {
    "aten::native_batch_norm": (3, 4),
    "aten::cudnn_batch_norm": (3, 4),
    "aten::_native_batch_norm_legit": (3, 4),
    "aten::miopen_batch_norm": (3, 4),
}
# Operations that accept CPU and GPU tensors together.
_ACCEPTS_BOTH = {"aten::copy_", "aten::_to_copy", "aten::set_"}
_ACCEPTS_CPU_INDICES = {
    "aten::index",
    "aten::index_put",
    "aten::index_put_",
    "aten::_index_put_impl_",
    "aten::_unsafe_index",
}
_ACCEPTS_CPU_SCALARS = ("aten::_fused_", "aten::_foreach_")
_NO_KERNEL = {
    "aten::lift_fresh",
    "aten::detach",
    "aten::alias",
    "aten::empty",
    "aten::empty_strided",
    "aten::empty_like",
    "aten::new_empty",
    "aten::new_empty_strided",
}


class CudaTensor(torch.Tensor):
    """A CPU tensor `inner` as a GPU tensor; `block` is the history of its memory."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor, block: Block | None = None) -> "CudaTensor":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        made.inner, made.block = inner, block or block_of(inner)
        return made

    def __repr__(self, **_: Any) -> str:
        return f"CudaTensor({self.inner})"

    __str__ = __repr__

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(func, args, kwargs or {})

    def __reduce_ex__(self, protocol: Any) -> Any:
        GPU.sync("pickled (copied to the host)")
        GPU.enqueue(current_stream(), {self.block}, set(), "copy to the host")
        GPU.advance_host(current_stream().seen)
        return (
            self.inner.detach().clone(memory_format=torch.preserve_format).__reduce_ex__(protocol)
        )

    def __deepcopy__(self, memo: Any) -> "CudaTensor":
        made = CudaTensor(self.inner.detach().clone(memory_format=torch.preserve_format))
        GPU.enqueue(current_stream(), {self.block}, {made.block}, "deepcopy")
        if getattr(self, "_is_param", False):
            made = torch.nn.Parameter(made, self.requires_grad)
        memo[id(self)] = made
        return made

    def pin_memory(self, *_: Any) -> Any:
        raise RuntimeError("cannot pin 'torch.cuda' tensors, only dense CPU tensors can be pinned")

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def record_stream(self, stream: Any) -> None:
        self.block.recorded.add(stream.number)


def block_of(inner: torch.Tensor) -> Block:
    """Return the block of a tensor's storage."""
    key = inner.untyped_storage()._cdata
    block = GPU.by_storage.get(key)
    if block is None:
        block = Block(GPU, inner.untyped_storage().nbytes(), current_stream().number)
        GPU.by_storage[key] = block
    return block


def dispatch(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation that takes or creates GPU tensors."""
    name = func._schema.name
    device = kwargs.get("device")
    to_cuda = device is not None and torch.device(device).type == "cuda"
    flat, _ = tree_flatten((args, kwargs))
    wrapped = [x for x in flat if isinstance(x, CudaTensor)]
    if not wrapped and not to_cuda:
        return _on_host(func, args, kwargs)
    plain = [x for x in flat if isinstance(x, torch.Tensor) and not isinstance(x, CudaTensor)]
    plain = [x for x in plain if x.device.type == "cpu"]
    with GPU.lock:
        if wrapped and plain:
            _check_mixture(func, name, wrapped, plain)
        if name == "aten::copy_":
            return _copy(func, *args, **kwargs)
        if name == "aten::_to_copy" and (to_cuda != bool(wrapped)) and device is not None:
            return _to_other_device(args[0], to_cuda, kwargs)
        kwargs = dict(kwargs)
        if to_cuda:
            kwargs["device"] = torch.device("cpu")
        kwargs.pop("pin_memory", None) if to_cuda else None
        to_host = device is not None and not to_cuda
        if name in _SYNCHRONIZING or _waits_for_a_mask(name, args):
            GPU.sync(name)
            GPU.enqueue(current_stream(), {x.block for x in wrapped}, set(), name)
            GPU.advance_host(current_stream().seen)
            return _wrap(func(*_inner(args), **_inner(kwargs)))
        return _kernel(func, name, args, kwargs, to_host)


def _on_host(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    if not kwargs.get("pin_memory"):
        return func(*args, **kwargs)
    made = func(*args, **{**kwargs, "pin_memory": False})
    made._emulated_pin = True
    return made


def _check_mixture(func: Any, name: str, wrapped: list, plain: list) -> None:
    if name in _ACCEPTS_BOTH:
        return
    if name in _ACCEPTS_CPU_INDICES and all(not x.is_floating_point() for x in plain):
        GPU.sync(f"{name} copies indices from the CPU")
        return
    scalars = all(x.dim() == 0 for x in plain)
    if scalars and (torch.Tag.pointwise in func.tags or name.startswith(_ACCEPTS_CPU_SCALARS)):
        return
    raise RuntimeError(
        "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and "
        f"cpu! (emulated; in {name}, at {GPU.where()})"
    )


def _waits_for_a_mask(name: str, args: Any) -> bool:
    if name not in _ACCEPTS_CPU_INDICES:
        return False
    return any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1])


def _inner(tree: Any) -> Any:
    return tree_map_only(CudaTensor, lambda x: x.inner, tree)


def _wrap(tree: Any) -> Any:
    return tree_map_only(
        torch.Tensor, lambda x: x if isinstance(x, CudaTensor) else CudaTensor(x), tree
    )


def written_by(func: Any, args: Any, kwargs: dict[str, Any]) -> list[CudaTensor]:
    """Return the tensors that an operation modifies."""
    name, found = func._schema.name, []
    if name in _HIDDEN_WRITES:
        return [args[i] for i in _HIDDEN_WRITES[name] if isinstance(args[i], CudaTensor)]
    if not func._schema.is_mutable:
        return []
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[index] if index < len(args) else kwargs.get(argument.name)
            found += [x for x in tree_flatten(value)[0] if isinstance(x, CudaTensor)]
    return found


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the CPU; cuDNN operations are replaced by native ones."""
    name = func._schema.name
    if name == "aten::cudnn_batch_norm":
        images, weight, bias, mean, var, training, momentum, eps = args
        out = aten.native_batch_norm(images, weight, bias, mean, var, training, momentum, eps)
        return (*out, torch.empty(0, dtype=torch.uint8))
    if name == "aten::cudnn_batch_norm_backward":
        images, gradient, weight, mean, var, saved_mean, saved_var, eps, _ = args
        return aten.native_batch_norm_backward(
            gradient, images, weight, mean, var, saved_mean, saved_var, True, eps, [True] * 3
        )
    return func(*args, **kwargs)


def _kernel(func: Any, name: str, args: Any, kwargs: dict[str, Any], to_host: bool) -> Any:
    stream, capture = current_stream(), GPU.capture
    written = written_by(func, args, kwargs)
    if name.startswith("aten::_fused_"):
        _check_fused(name, args)
    if torch.Tag.nondeterministic_seeded in func.tags and not name.startswith("aten::_fused"):
        GPU.find("rng", f"{name} draws from the GPU's generator")
    if capture is not None:
        for tensor in written:
            capture.keep(tensor)
    if capture is not None:  # CPU values become constants of the graph
        args, kwargs = tree_map_only(torch.Tensor, _frozen, (args, kwargs))
    inner_args, inner_kwargs = _inner(args), _inner(kwargs)
    out = compute(func, inner_args, inner_kwargs)
    if to_host:
        return out
    inputs = {x.untyped_storage()._cdata for x in _tensors((inner_args, inner_kwargs))}
    results = _tensors(out)
    fresh = [x for x in results if x.untyped_storage()._cdata not in inputs]
    is_view = not fresh and not written and bool(results)
    outer = _as_returned(func, args, kwargs, out)
    if is_view or name in _NO_KERNEL:
        if capture is not None and fresh:
            capture.add_memory(fresh)
        return outer
    reads = {x.block for x in tree_flatten((args, kwargs))[0] if isinstance(x, CudaTensor)}
    writes = {x.block for x in written} | {block_of(x) for x in fresh}
    GPU.ops[name] += 1
    if GPU.log_ops:
        GPU.op_log.append((name, stream.number, capture is not None, GPU.where()))
    if capture is not None:
        capture.record(func, inner_args, inner_kwargs, out, fresh, reads, writes)
    else:
        GPU.enqueue(stream, reads - writes, writes, name)
    return outer


def _check_fused(name: str, args: Any) -> None:
    """The lists of a fused optimizer agree, or CUDA's kernel raises; the CPU's copies instead."""
    lists = [x for x in args if isinstance(x, list | tuple) and x]
    if name.startswith("aten::_fused_adam"):
        lists = lists[:4]  # and not the counts of steps
    for tensors in zip(*lists, strict=False):
        described = {
            (x.dtype, x.shape, tuple(s for s, n in zip(x.stride(), x.shape, strict=True) if n != 1))
            for x in tensors
        }
        if len(described) > 1:
            raise RuntimeError(
                "params, grads, exp_avgs, and exp_avg_sqs must have same dtype, device, and layout "
                f"(emulated; {described})"
            )


def _frozen(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if isinstance(tensor, CudaTensor) else tensor.clone()


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [x for x in tree_flatten(tree)[0] if isinstance(x, torch.Tensor)]


def _as_returned(func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> Any:
    """Wrap results; results that alias an argument are that argument."""
    returns = func._schema.returns
    aliases = {}
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[index] if index < len(args) else kwargs.get(argument.name)
            for alias in argument.alias_info.before_set:
                aliases[alias] = value

    def wrap_one(value: Any, result: Any) -> Any:
        info = result.alias_info
        if info is not None and info.is_write:
            for alias in info.before_set:
                if alias in aliases:
                    return aliases[alias]
        return _wrap(value)

    if len(returns) == 1:
        return wrap_one(out, returns[0])
    if isinstance(out, tuple | list):
        return (
            type(out)(map(wrap_one, out, returns))
            if type(out) in (tuple, list)
            else tuple(map(wrap_one, out, returns))
        )
    return _wrap(out)


# copies between host and device


def _copy(func: Any, target: Any, source: Any, non_blocking: bool = False) -> Any:
    stream, capture = current_stream(), GPU.capture
    on_target, on_source = (isinstance(x, CudaTensor) for x in (target, source))
    if on_target and on_source:
        return _kernel(func, "aten::copy_", (target, source, non_blocking), {}, False)
    if on_target:
        pinned = getattr(source, "_emulated_pin", False)
        if capture is not None and not pinned:
            raise SyncInCapture(f"copy from pageable memory in a capture, at {GPU.where()}")
        if not non_blocking:
            GPU.sync(f"copy_ of {source.numel() * source.element_size()} bytes to the GPU")
        elif not pinned:
            GPU.find("sync", "non-blocking copy_ to the GPU from pageable memory")
        if capture is not None:
            capture.keep(target)
            capture.record(
                func,
                (target.inner, source, non_blocking),
                {},
                target.inner,
                [],
                set(),
                {target.block},
            )
            return target
        target.inner.copy_(source)
        clock = GPU.enqueue(stream, set(), {target.block}, "copy to the GPU")
        if not non_blocking:
            GPU.advance_host(stream.seen)
        elif pinned:
            GPU.pending.append((stream.number, clock, _source_is_unchanged(source)))
        return target
    pinned = getattr(target, "_emulated_pin", False)
    if capture is not None:
        raise SyncInCapture(f"copy to the host in a capture, at {GPU.where()}")
    if non_blocking and not pinned:
        GPU.find("race", "non-blocking copy_ to pageable host memory")
    clock = GPU.enqueue(stream, {source.block}, set(), "copy to the host")
    if non_blocking and pinned:  # the values arrive later
        values = source.inner.clone()
        GPU.pending.append((stream.number, clock, lambda: torch.Tensor.copy_(target, values)))
        return target
    GPU.sync(f"copy_ of {source.numel() * source.element_size()} bytes to the host")
    GPU.advance_host(stream.seen)
    target.copy_(source.inner)
    return target


def _source_is_unchanged(source: Any) -> Any:
    """Return a check that the pinned source of a copy has not been modified."""
    values, where = source.clone(), GPU.where()

    def check() -> None:
        if not torch.Tensor.equal(source, values):
            GPU.find("race", f"pinned memory was modified before it was copied at {where}")

    return check


def _to_other_device(source: Any, to_cuda: bool, kwargs: dict[str, Any]) -> Any:
    options = {k: v for k, v in kwargs.items() if k not in ("device", "non_blocking", "pin_memory")}
    non_blocking, stream = kwargs.get("non_blocking", False), current_stream()
    if to_cuda:
        if GPU.capture is not None and not getattr(source, "_emulated_pin", False):
            raise SyncInCapture(f"copy from pageable memory in a capture, at {GPU.where()}")
        if not non_blocking:
            GPU.sync(f".to(cuda) of {source.numel() * source.element_size()} bytes")
        inner = aten._to_copy(source, **options)
        made = CudaTensor(inner)
        GPU.enqueue(stream, set(), {made.block}, "copy to the GPU")
        if not non_blocking:
            GPU.advance_host(stream.seen)
        return made
    if GPU.capture is not None:
        raise SyncInCapture(f"copy to the host in a capture, at {GPU.where()}")
    GPU.sync(f".to(cpu) of {source.numel() * source.element_size()} bytes")
    GPU.enqueue(stream, {source.block}, set(), "copy to the host")
    GPU.advance_host(stream.seen)
    return aten._to_copy(source.inner, **options)


class Mode(TorchDispatchMode):
    """Intercepts operations without GPU tensors as arguments, such as torch.zeros."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(func, args, kwargs or {})
