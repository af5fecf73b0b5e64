{{/* A value as an expression of CEL; dyn, as CEL takes no map or list of mixed types. */}}
{{- define "cel.literal" -}}
{{- if kindIs "map" . -}}
{{- $parts := list }}
{{- range $key, $value := . }}
{{- $parts = append $parts (printf "%s: dyn(%s)" (toJson $key) (include "cel.literal" $value)) }}
{{- end -}}
{ {{- join ", " $parts -}} }
{{- else if kindIs "slice" . -}}
{{- $parts := list }}
{{- range . }}
{{- $parts = append $parts (printf "dyn(%s)" (include "cel.literal" .)) }}
{{- end -}}
[ {{- join ", " $parts -}} ]
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{ int64 . }}
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end -}}
