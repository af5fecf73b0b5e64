{{/* Whether the endpoint picker runs in the routers' pods: asked for, or needed by the gateway. Empty: no. */}}
{{- define "gateway.picker" -}}
{{- if or .Values.router.picker.enabled .Values.gateway.enabled }}true{{ end -}}
{{- end -}}

{{- define "gateway.image" -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end -}}

{{/* As of other components; a new configuration is a reason to replace them, as Envoy reads it once. */}}
{{- define "gateway.pod-metadata" -}}
labels:
  {{- include "lora-operator.selector" . | nindent 2 }}
  app.kubernetes.io/component: gateway
  {{- with .Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  checksum/config: {{ include "gateway.envoy" . | sha256sum }}
  {{- with .Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Who may ask the picker, as NetworkPolicy peers in JSON: whoever is named, and the gateway, whose word on owners is taken. */}}
{{- define "gateway.picker-clients" -}}
{{- $peers := .Values.router.picker.clients }}
{{- if .Values.gateway.enabled }}
{{- $peers = append $peers (dict "podSelector" (dict "matchLabels" (merge (include "lora-operator.selector" . | fromYaml) (dict "app.kubernetes.io/component" "gateway")))) }}
{{- end }}
{{- dict "peers" $peers | toJson }}
{{- end -}}

{{/* How the picker knows who asks. */}}
{{- define "gateway.owner-flags" -}}
{{- if .Values.gateway.enabled }}
{{- with .Values.gateway.owners }}
{{- $tokens := or .jwt.jwksUri .jwt.jwks }}
{{- $jwt := .jwt }}
{{- if and .jwt.issuer (not $tokens) }}
{{- fail "gateway.owners.jwt: issuer is set, and neither jwksUri nor jwks says by which keys its tokens are verified" }}
{{- end }}
{{- if and $tokens (not .jwt.audiences) }}
{{- fail "gateway.owners.jwt.audiences: say whom tokens must be for; else those that people give to any other service would do" }}
{{- end }}
{{- if and $tokens .keysSecret }}
{{- fail "gateway.owners: owners are known by API keys or by tokens; set keysSecret or jwt" }}
{{- end }}
{{- if and $.Values.gateway.rateLimit.requests (not (or $tokens .keysSecret)) }}
{{- fail "gateway.rateLimit is for each owner: say in gateway.owners how owners are known" }}
{{- end }}
{{- with $.Values.library }}
{{- if and .enabled $tokens (eq (.settings.oidcIssuer | default "") $jwt.issuer) (ne (.settings.oidcSubjectPrefix | default "") $jwt.prefix) }}
{{- fail "gateway.owners.jwt.prefix and library.settings.oidcSubjectPrefix differ: users could not call what they upload; set both to the same" }}
{{- end }}
{{- end }}
{{- if $tokens }}
- {{ printf "--picker-owner-claim=%s" .jwt.claim | quote }}
{{- with .jwt.prefix }}
- {{ printf "--picker-owner-prefix=%s" . | quote }}
{{- end }}
{{- end }}
{{- if .keysSecret }}
- --picker-keys=/etc/gateway-keys
{{- end }}
{{- if or $tokens .keysSecret }}
{{- range .shared }}
- --picker-shared-owner={{ . }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
