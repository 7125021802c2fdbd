"""Hash of a checkpoint folder: the names and contents of the files that decide what its model answers."""

import hashlib
from pathlib import Path

from rankport.exporters.checkpoints.config.quantization_files import QUANTIZATION_FILES
from rankport.exporters.checkpoints.forms.onnx_file import onnx_tensors
from rankport.exporters.checkpoints.forms.own.set_ranker import IDS_FILES
from rankport.exporters.checkpoints.late_interaction.form import LATE_FILES
from rankport.exporters.checkpoints.sentence_transformers.modules import module_folders
from rankport.exporters.checkpoints.sparse.form import SPARSE_FILES

_HASHED = (
    "config.json",
    "adapter_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "crf.json",
    "list_ranker.toml",
    IDS_FILES,
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_*_config.json",
    *LATE_FILES,
    *SPARSE_FILES,
    *QUANTIZATION_FILES,
)


def checkpoint_sha256(path: Path) -> str:
    """Hashes the names and contents of the files that decide what the model answers, in name order.

    Of a sentence-transformers folder also those in the folders that `modules.json` names.
    """
    total = hashlib.sha256()
    folders = module_folders(path)
    hashed = {file for folder in folders for pattern in _HASHED for file in folder.glob(pattern)}
    graphs = (onnx_tensors(folder) for folder in folders)
    hashed |= {file for graph in graphs if graph is not None for file in graph.files}
    for file in sorted(hashed):
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{file.relative_to(path).as_posix()}\0{digest}\n".encode())
    return total.hexdigest()
