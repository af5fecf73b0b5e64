// Two small programs for nodes, built from the standard library alone (see e2e/cluster/programs.py).
module lora-operator.dev/e2e/cluster/tools

go 1.26.0
