{{/*
A map of settings as flags: probeSeconds 2 is --probe-seconds=2, denyPrivate false is --no-deny-private, and a list repeats the
flag in the singular. Whole numbers stay whole: YAML numbers come as floating-point ones, and 1e+06 is no --max-moves.
*/}}
{{- define "settings.flags" -}}
{{- range $name, $value := . }}
{{- $flag := kebabcase $name }}
{{- if kindIs "slice" $value }}
{{- range $value }}
- {{ printf "--%s=%s" (trimSuffix "s" $flag) (toString .) | quote }}
{{- end }}
{{- else if kindIs "bool" $value }}
- {{ ternary "--" "--no-" $value }}{{ $flag }}
{{- else if and (kindIs "float64" $value) (eq (floor $value) $value) }}
- --{{ $flag }}={{ int64 $value }}
{{- else }}
- {{ printf "--%s=%s" $flag (toString $value) | quote }}
{{- end }}
{{- end }}
{{- end -}}
