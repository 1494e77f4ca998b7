"""Reading checkpoints: safetensors in one file, shards, Hugging Face and diffusers folders."""

from workbench.checkpoint.checkpoint import Checkpoint, denoiser_of
from workbench.checkpoint.contents.bundle import BundlePart
from workbench.checkpoint.folders.side_files import SideFile
from workbench.checkpoint.modality import Modality, detect_modality
from workbench.checkpoint.naming import named_as, originally_named, under_names
from workbench.checkpoint.opening import load_sharded_safetensors, open_checkpoint, opened
from workbench.checkpoint.readers.fusion import split_rows
from workbench.checkpoint.readers.safetensors import SafeTensorsAdapter, ShardedSafeTensorsAdapter
from workbench.checkpoint.tensors import DTYPES, TensorInfo

__all__ = [
    "DTYPES",
    "BundlePart",
    "Checkpoint",
    "Modality",
    "SafeTensorsAdapter",
    "ShardedSafeTensorsAdapter",
    "SideFile",
    "TensorInfo",
    "denoiser_of",
    "detect_modality",
    "load_sharded_safetensors",
    "named_as",
    "open_checkpoint",
    "opened",
    "originally_named",
    "split_rows",
    "under_names",
]
