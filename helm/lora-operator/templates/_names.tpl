{{/* The name of all objects: the release's, if it says what this is. */}}
{{- define "lora-operator.name" -}}
{{- if contains "lora-operator" .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-lora-operator" .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "lora-operator.selector" -}}
app.kubernetes.io/name: lora-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "lora-operator.labels" -}}
{{ include "lora-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{- define "lora-operator.account" -}}
{{ .Values.serviceAccount.name | default (ternary (include "lora-operator.name" .) "default" .Values.serviceAccount.create) }}
{{- end -}}

{{- define "lora-operator.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "lora-operator.token-secret" -}}
{{ .Values.agentToken.existingSecret | default "lora-agent-token" }}
{{- end -}}

{{- define "lora-operator.claim" -}}
{{ .Values.adapterVolume.existingClaim | default "lora-adapters" }}
{{- end -}}

{{/* Who a binding is for. */}}
{{- define "lora-operator.subjects" -}}
subjects:
- kind: ServiceAccount
  name: {{ include "lora-operator.account" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{- define "lora-operator.pod-security" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "lora-operator.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Of what exists only for the time of an uninstall: {root, weight}. */}}
{{- define "lora-operator.let-go-metadata" }}
  labels:
    {{- include "lora-operator.selector" .root | nindent 4 }}
    app.kubernetes.io/component: let-go
  annotations:
    helm.sh/hook: pre-delete
    helm.sh/hook-weight: {{ .weight | quote }}
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
{{- end }}

{{/* Where the replicas of a component may run: {root, component}. */}}
{{- define "lora-operator.scheduling" -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
{{- toYaml . | nindent 0 }}
{{- end }}
affinity:
  {{- if .root.Values.affinity }}
  {{- toYaml .root.Values.affinity | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "lora-operator.selector" .root | nindent 12 }}
            app.kubernetes.io/component: {{ .component }}
  {{- end }}
{{- end -}}

{{/* Labels and annotations of the pods of a component: {root, component}. */}}
{{- define "lora-operator.pod-metadata" -}}
labels:
  {{- include "lora-operator.selector" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .root.Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A budget for the disruption of a component: {root, component, name}. */}}
{{- define "lora-operator.disruption" -}}
{{- if .root.Values.podDisruptionBudget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "lora-operator.labels" .root | nindent 4 }}
spec:
  maxUnavailable: {{ .root.Values.podDisruptionBudget.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow  # one that does not work must not hold up a node's drain
  selector:
    matchLabels:
      {{- include "lora-operator.selector" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
{{- end }}
{{- end -}}
