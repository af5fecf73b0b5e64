{{/*
What the operator exports, and with which rights. What was switched off is removed by the operator, once: an upgrade finds in the
cluster that it still had the right to make such objects, and leaves it the right to delete them.
*/}}
{{- define "lora-operator.adapter-services" -}}
{{- include "lora-operator.export" (dict "root" . "value" .Values.adapterServices "kind" "services") -}}
{{- end -}}

{{- define "lora-operator.base-model-maps" -}}
{{- include "lora-operator.export" (dict "root" . "value" .Values.baseModelMaps "kind" "configmaps") -}}
{{- end -}}

{{- define "lora-operator.export" -}}
{{- $found := .value }}
{{- if and (eq .value "none") .root.Release.IsUpgrade .root.Values.rbac.create }}
{{- $names := .root.Values.watchNamespaces }}
{{- $role := ternary (lookup "rbac.authorization.k8s.io/v1" "Role" (first (append $names "")) (include "lora-operator.name" .root)) (lookup "rbac.authorization.k8s.io/v1" "ClusterRole" "" (include "lora-operator.cluster-name" .root)) (gt (len $names) 0) }}
{{- range dig "rules" list ($role | default dict) }}
{{- if and (has $.kind (.resources | default list)) (has "create" (.verbs | default list)) }}
{{- $found = "remove" }}
{{- end }}
{{- end }}
{{- end }}
{{- $found -}}
{{- end -}}

{{- define "lora-operator.export-rights" -}}
{{- if ne .mode "none" }}
- apiGroups: [{{ .group | quote }}]
  resources: [{{ .kind }}]
  verbs: [get, list, watch, delete{{ if ne .mode "remove" }}, create, patch{{ end }}]  # docs/routers.md
{{- end }}
{{- end -}}
