#!/usr/bin/env bash
# scripts/demo.py by the first Python on PATH that will do: makes .venv, installs this clone, and lets the demo person say a sentence it was
# never trained on. The last line is the video's path.
#
#     ./scripts/demo.sh            with the weights in checkpoints/; at most 4 minutes after installation
#     ./scripts/demo.sh --train    makes those weights again first (corpus, SyncNet, audio2motion, PostNet, head, torso); about an hour
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

python="$(find_python)"
exec "$python" scripts/demo.py "$@"
