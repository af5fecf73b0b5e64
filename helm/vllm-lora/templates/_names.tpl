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
