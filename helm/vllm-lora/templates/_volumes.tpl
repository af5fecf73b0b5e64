{{/* Whether each pod has a claim of its own for the model: {root, model}. */}}
{{- define "vllm-lora.own-claims" -}}
{{- with .model.modelCache }}
{{- if and .enabled .size (not .existingClaim) }}yes{{ end }}
{{- end }}
{{- end -}}

{{/* The volumes of a model's pods: {root, model}. */}}
{{- define "vllm-lora.volumes" -}}
{{- $delivery := .root.Values.delivery -}}
- name: shm  # the default of 64 MiB is too little for tensor parallelism
  emptyDir:
    medium: Memory
    sizeLimit: {{ include "vllm-lora.size" .model.shmSize }}
{{- with .model.modelCache }}
{{- if and .enabled .existingClaim }}
- name: model-cache
  persistentVolumeClaim:
    claimName: {{ .existingClaim }}
{{- else if and .enabled (not .size) }}
- name: model-cache
  emptyDir: {}
{{- end }}
{{- end }}
{{- if .model.loraConfig.enabled }}
- name: adapters
  {{- if eq $delivery.kind "podDisk" }}
  emptyDir:
    sizeLimit: {{ include "vllm-lora.size" $delivery.size }}
  {{- else if eq $delivery.kind "nodeDisk" }}
  hostPath:
    path: {{ $delivery.hostPath }}
    type: DirectoryOrCreate
  {{- else }}
  persistentVolumeClaim:
    claimName: {{ $delivery.existingClaim }}
    readOnly: true
  {{- end }}
{{- end }}
{{- if include "vllm-lora.has-agent" . }}
- name: token
  secret:
    secretName: {{ $delivery.agent.tokenSecret }}
{{- with $delivery.agent.ca }}
{{- if .configMap }}
- name: ca
  configMap:
    name: {{ .configMap }}
{{- end }}
{{- end }}
{{- end }}
{{- with .model.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
