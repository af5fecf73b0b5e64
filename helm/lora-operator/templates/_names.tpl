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

{{/* Of what belongs to no namespace: two releases of one name, each in its own namespace, do not collide. */}}
{{- define "lora-operator.cluster-name" -}}
{{ include "lora-operator.name" . }}.{{ .Release.Namespace }}
{{- end -}}

{{/* Of every object; pods have the selector alone, so that a new chart is no reason to replace them. */}}
{{- define "lora-operator.labels" -}}
{{ include "lora-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: lora-operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "lora-operator.account" -}}
{{ .Values.serviceAccount.name | default (ternary (include "lora-operator.name" .) "default" .Values.serviceAccount.create) }}
{{- end -}}

{{- define "lora-operator.image" -}}
{{- $repository := required "image.repository is not set, and no image is published: name the one that you have built and pushed (make image), for example --set image.repository=registry.example.com/lora-operator" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "lora-operator.token-secret" -}}
{{ .Values.agentToken.existingSecret | default "lora-agent-token" }}
{{- end -}}

{{- define "lora-operator.claim" -}}
{{ .Values.adapterVolume.existingClaim | default "lora-adapters" }}
{{- end -}}

{{/* Below what adapterSource type local may read: what is mounted for it, and without that a folder that is not there. */}}
{{- define "lora-operator.local-roots" -}}
{{- if not .Values.settings.localRoots }}
{{- range .Values.volumeMounts | default (list (dict "mountPath" "/sources")) }}
- --local-root={{ .mountPath }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Who may ask, as `from` of a rule of a NetworkPolicy: {root, peers}. None: everybody or, hardened, this namespace. */}}
{{- define "lora-operator.from" -}}
{{- $peers := .peers }}
{{- if and (not $peers) .root.Values.hardened }}
{{- $peers = list (dict "podSelector" (dict)) }}
{{- end }}
{{- with $peers }}
from:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}

{{/* Clients of the router API; who scrapes is let in too, where they are named. */}}
{{- define "lora-operator.router-from" -}}
{{- $peers := .Values.router.clients }}
{{- if or $peers .Values.hardened }}
{{- $peers = concat ($peers | default (list (dict "podSelector" (dict)))) .Values.networkPolicy.metricsFrom }}
{{- end }}
{{- include "lora-operator.from" (dict "root" . "peers" $peers) }}
{{- end -}}

{{/* What the Service of the router API leads to goes on answering until kube-proxies and clients have heard of its end. */}}
{{- define "lora-operator.leaves-first" -}}
{{- with int .Values.router.preStopSeconds }}
lifecycle:
  preStop:
    sleep:
      seconds: {{ . }}
{{- end }}
{{- end -}}

{{/* Who a binding is for. */}}
{{- define "lora-operator.subjects" -}}
subjects:
- kind: ServiceAccount
  name: {{ include "lora-operator.account" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{/* OpenShift gives a namespace's pods their user and groups, and refuses others: there ours are left out. */}}
{{- define "lora-operator.pod-security" -}}
{{- if .Capabilities.APIVersions.Has "security.openshift.io/v1" }}
{{- toYaml (omit .Values.podSecurityContext "runAsUser" "runAsGroup" "fsGroup") }}
{{- else }}
{{- toYaml .Values.podSecurityContext }}
{{- end }}
{{- end -}}

{{- define "lora-operator.container-security" -}}
{{- toYaml .Values.securityContext }}
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
enableServiceLinks: false  # the Services would set LORA_OPERATOR_… variables, which are settings
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
topologySpreadConstraints:
{{- if .root.Values.topologySpreadConstraints }}
{{- toYaml .root.Values.topologySpreadConstraints | nindent 0 }}
{{- else }}
- maxSkew: 1
  topologyKey: topology.kubernetes.io/zone
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "lora-operator.selector" .root | nindent 6 }}
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
