"""The example of the API that users were promised to be able to apply as it stands, status and all."""

PROMISED_EXAMPLE = """\
apiVersion: production-stack.vllm-project/v1alpha1
kind: LoraAdapter
metadata:
  name: example-adapter
spec:
  baseModel: "meta-llama/Llama-2-70b-hf"
  adapterSource:
    type: "huggingface"          # huggingface | s3 | azure | local | http
    repository: "org/repo"
    pattern: "*alpaca*"          # optional glob over adapter names
    adapters: []                 # optional explicit list
    prefix: "lora-"              # optional name prefix
  credentialsSecretRef:
    name: "source-credentials"
  deploymentConfig:
    loadOnStartup: true
    podSelector:
      matchLabels:
        lora-enabled: "true"
        baseModel: "meta-llama-Llama-2-70b-hf"
  schedulingConfig:
    priority: 10
    preemptionPolicy: "LowerPriority"   # or "None"
    resourceRequirements:
      memory: "2Gi"
status:
  phase: "Ready"                 # Pending | Loading | Ready | Partial | Failed
  loadedAdapters: ["alpaca-lora-7b"]
  failedAdapters:
    - name: "alpaca-lora-13b"
      reason: "Not enough memory"
  podAssignments:
    - pod: "vllm-llama-0"
      adapters: ["alpaca-lora-7b"]
"""
