# To be sourced in the repository's root on the GPU machine, before `python3 -m benchmarks.gpu.run`: lays out what
# `pack` put into .gpu/ and makes this checkout importable. Environment: GPU_WORK, a scratch folder;
# GPU_PACK, the folder of `pack`.
GPU_WORK=${GPU_WORK:-/tmp/rankport-gpu}
GPU_PACK=${GPU_PACK:-.gpu}
mkdir -p "$GPU_WORK/site" "$GPU_WORK/skeletons"
for wheel in "$GPU_PACK"/wheels/*.whl; do
    [ -f "$wheel" ] || continue
    python3 -m zipfile -e "$wheel" "$GPU_WORK/site" || echo "setup: cannot unpack $wheel"
done
for archive in "$GPU_PACK"/skeletons/*.tar.xz; do
    [ -f "$archive" ] || continue
    tar -xJf "$archive" -C "$GPU_WORK/skeletons" || echo "setup: cannot unpack $archive"
done
for slice in "$GPU_PACK"/runtime/*/; do
    [ -f "$slice/unpack.py" ] || continue
    python3 "$slice/unpack.py" "$slice" --stash "$GPU_WORK/parts" --to "$GPU_WORK/runtime" >/dev/null ||
        echo "setup: cannot unpack $slice"
done
# A call ahead of the session brings slices alone.
[ -d "$GPU_PACK/wheels" ] || return 0
export PYTHONPATH="$GPU_WORK/site:$PWD/sdk:$PWD/exporters:$PWD/runtime:$PWD/protos:$PWD"
# Exports write down the versions of packages: this checkout's is told as an installation would.
python3 -c '
import pathlib, sys
from rankport.protos.installed.packages import VERSION
info = pathlib.Path(sys.argv[1]) / f"rankport-{VERSION}.dist-info"
info.mkdir(exist_ok=True)
(info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: rankport\nVersion: {VERSION}\n")
' "$GPU_WORK/site" || echo "setup: no metadata of rankport"
# The packed libraries come first: the machine's own onnxruntime has no CUDA.
[ -f "$GPU_WORK/runtime/env.sh" ] && . "$GPU_WORK/runtime/env.sh"
# onnxruntime looks for CUDA's libraries beside itself.
nvidia=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null)
[ -n "$nvidia" ] && [ -d "$GPU_WORK/runtime" ] && [ ! -e "$GPU_WORK/runtime/nvidia" ] &&
    ln -s "$nvidia" "$GPU_WORK/runtime/nvidia"
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# What a part lacks costs that part alone: it is told, and the run begins.
python3 -c '
import importlib
versions = {}
for name in (
    "onnxruntime pydantic lmdb grpc google.protobuf rankport.sdk rankport.runtime.server.server "
    "rankport.exporters.kinds.ranker.proof.modes"
).split():
    try:
        versions[name] = getattr(importlib.import_module(name), "__version__", "")
    except Exception as error:
        print(f"setup: {name} cannot be imported: {type(error).__name__}: {error}")
if "onnxruntime" in versions:
    import onnxruntime
    print("setup: onnxruntime", versions["onnxruntime"], onnxruntime.get_available_providers())
print("setup:", *(f"{name} {version}" for name, version in versions.items() if version))
' || true
