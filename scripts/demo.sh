#!/usr/bin/env bash
# The main job on the embedded avatar: makes .venv, installs this clone, and lets the demo person say a sentence it was never trained on.
# The last line is the video's path.
#
#     ./scripts/demo.sh            with the weights in checkpoints/; at most 4 minutes after installation
#     ./scripts/demo.sh --train    makes those weights again first (corpus, SyncNet, audio2motion, PostNet, head, torso); about an hour
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

train=false
case "${1:-}" in
    "") ;;
    --train) train=true ;;
    *) say "usage: ./scripts/demo.sh [--train]"; exit 2 ;;
esac

install_clone ""
ensure_system_libraries
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$PWD/.jax_cache}"
geneface() { "$PYTHON" -m geneface_jax "$@"; }

if $train; then
    "$PYTHON" scripts/train_demo.py
fi

speech=data_tools/avatar/speech/demo_heldout.wav
geneface infer --subject checkpoints/demo --audio "$speech" --out out/demo.mp4

# Against the truth: the avatar really saying that sentence. The measurement takes pose and blinks from the true video (docs: audio protocol).
if [ -z "$("$PYTHON" -m geneface_jax.system_libraries)" ]; then
    [ -f out/heldout/video.mp4 ] || "$PYTHON" -m data_tools.avatar video --speaker demo --part heldout --out out/heldout
    geneface prepare out/heldout/video.mp4 --out out/heldout --size 256
    geneface evaluate --subject checkpoints/demo --against out/heldout/dataset --protocol audio --out out/demo_beside_truth.mp4 --json out/demo.json
else
    say "The comparison with the true video needs MediaPipe's system libraries and is left out."
fi
echo "$PWD/out/demo.mp4"
