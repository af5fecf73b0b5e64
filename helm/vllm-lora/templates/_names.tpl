{{/* Of one model: {root, model}. The release's name is in front, unless it is the model's. */}}
{{- define "vllm-lora.name" -}}
{{- if eq .root.Release.Name .model.name -}}
{{ .model.name }}
{{- else -}}
{{ printf "%s-%s" .root.Release.Name .model.name | trunc 52 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "vllm-lora.selector" -}}
app.kubernetes.io/name: vllm
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .model.name }}
{{- end -}}

{{/* Of every object; pods have the selector alone, so that a new chart is no reason to replace them. */}}
{{- define "vllm-lora.labels" -}}
{{ include "vllm-lora.selector" . }}
app.kubernetes.io/part-of: vllm-lora
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* name, namespace and labels: {root, model}. */}}
{{- define "vllm-lora.metadata" -}}
name: {{ include "vllm-lora.name" . }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "vllm-lora.labels" . | nindent 2 }}
{{- end -}}

{{/* Settings and defaults of every model, as JSON: {models: […]}. */}}
{{- define "vllm-lora.models" -}}
{{- $models := list }}
{{- range .Values.models }}
{{- $models = append $models (mergeOverwrite (deepCopy $.Values.modelDefaults) .) }}
{{- end }}
{{- toJson (dict "models" $models) }}
{{- end -}}

{{/* Whether the pods of a model have an agent: {root, model}. */}}
{{- define "vllm-lora.has-agent" -}}
{{- if and .model.loraConfig.enabled (ne .root.Values.delivery.kind "sharedVolume") }}yes{{ end }}
{{- end -}}

{{/*
Whether the image is of a vLLM older than `version`: {model, version}. Tags of vLLM's own images (vllm/vllm-openai, in whichever
registry) say so; those of others are versions of something else, and count as new.
*/}}
{{- define "vllm-lora.older-than" -}}
{{- $named := regexFind "(^|/)vllm/vllm-openai[a-z-]*:v?[0-9]+\\.[0-9]+\\.[0-9]+" .model.image }}
{{- $release := $named | splitList ":" | last }}
{{- if and $release (semverCompare (printf "<%s" .version) $release) }}yes{{ end }}
{{- end -}}

{{/* An amount of bytes; a number comes as a floating-point one, and 5e+10 is none of Kubernetes' quantities. */}}
{{- define "vllm-lora.size" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ int64 . }}{{ end }}
{{- end -}}
