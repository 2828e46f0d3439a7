#!/usr/bin/env bash
# What a CI job does with tna: train, ternarize, evaluate, export, and fail if the accuracy is too low.
#   ci_job.sh RECIPE FOLDER      $PYTHON has tnacli installed
set -euo pipefail
recipe=$1 folder=$2
python=${PYTHON:-python3}
tna() { "$python" -m tnacli "$@"; }
# One value of a JSON document on stdin: value runs 0 checkpoint
value() {
    "$python" -c '
import json, sys
found = json.load(sys.stdin)
for key in sys.argv[1:]:
    found = found[int(key) if isinstance(found, list) else key]
print(found)' "$@"
}

mkdir -p "$folder"
cd "$folder"
tna doctor --json > doctor.json
test "$(value problems < doctor.json)" = 0

tna train "$recipe" --run baseline --set train.epochs=12 --set train.learning_rate=0.02 --json > train.json
checkpoint=$(value runs 0 checkpoint < train.json)

tna ternarize "$checkpoint" --delta 0.02 --epochs 8 --json > ternary.json
ternary=$(value runs 0 checkpoint < ternary.json)

tna export "$ternary" -o digits.safetensors --json > export.json

# Chance is 10 %. The packed file must be as good as the checkpoint that it was made from.
tna evaluate digits.safetensors --min-accuracy 20 --json > evaluate.json
test "$(value accuracy < evaluate.json)" = "$(value runs 0 accuracy base < ternary.json)"

# The same command again takes everything from disk.
tna train "$recipe" --run baseline --set train.epochs=12 --set train.learning_rate=0.02 --json > again.json
test "$(value runs 0 trained < again.json)" = False

# Mistakes are told by their exit codes.
code=0; tna train nope 2> error.txt || code=$?
test "$code" = 3
code=0; tna evaluate train.json 2> error.txt || code=$?
test "$code" = 8
code=0; tna evaluate digits.safetensors --min-accuracy 100 --json > low.json 2> error.txt || code=$?
test "$code" = 6
test "$(value enough < low.json)" = False
test "$(value error kind < low.json)" = ToleranceError
echo "all as it should be"
