{{/* The pods of a model: {root, model}. */}}

{{- define "vllm-lora.pod-labels" -}}
{{ include "vllm-lora.selector" . }}
{{- if .model.loraConfig.enabled }}
production-stack.vllm-project/lora: enabled
{{- end }}
{{- with .model.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "vllm-lora.pod-annotations" -}}
{{- $lora := .model.loraConfig }}
{{- $said := dict }}
{{- /* what is lost with these volumes is fetched again: no reason for a cluster autoscaler to keep a node */}}
{{- $lost := list "shm" }}
{{- if and .model.modelCache.enabled (not .model.modelCache.size) (not .model.modelCache.existingClaim) }}
{{- $lost = append $lost "model-cache" }}
{{- end }}
{{- if and $lora.enabled (eq .root.Values.delivery.kind "podDisk") }}
{{- $lost = append $lost "adapters" }}
{{- end }}
{{- $_ := set $said "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes" (join "," $lost) }}
{{- if $lora.enabled }}
{{- $group := "production-stack.vllm-project" }}
{{- $_ := set $said (printf "%s/base-model" $group) (.model.servedModelName | default .model.model) }}
{{- $_ := set $said (printf "%s/port" $group) (toString .model.port) }}
{{- $_ := set $said (printf "%s/max-loras" $group) (toString $lora.maxLoras) }}
{{- $_ := set $said (printf "%s/max-cpu-loras" $group) (toString $lora.maxCpuLoras) }}
{{- $_ := set $said (printf "%s/max-lora-rank" $group) (toString $lora.maxLoraRank) }}
{{- with $lora.memory }}
{{- $_ := set $said (printf "%s/lora-memory" $group) (include "vllm-lora.size" .) }}
{{- end }}
{{- $_ := set $said (printf "%s/adapter-root" $group) .root.Values.delivery.root }}
{{- end }}
{{- toYaml (mergeOverwrite $said .model.podAnnotations) }}
{{- end -}}

{{- define "vllm-lora.pod-spec" -}}
{{- $agent := include "vllm-lora.has-agent" . }}
{{- $delivery := .root.Values.delivery }}
{{- with .model -}}
terminationGracePeriodSeconds: {{ .terminationGracePeriodSeconds }}
automountServiceAccountToken: false
enableServiceLinks: false  # a Service called vllm would set VLLM_PORT, which vLLM reads
{{- with .serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .schedulerName }}
schedulerName: {{ . }}
{{- end }}
{{- with .runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $.root.Values.imagePullSecrets }}
imagePullSecrets:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
{{- toYaml . | nindent 0 }}
{{- end }}
affinity:
  {{- if .affinity }}
  {{- toYaml .affinity | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "vllm-lora.selector" $ | nindent 12 }}
  {{- end }}
{{- with .topologySpreadConstraints }}
topologySpreadConstraints:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- if and .loraConfig.enabled .readinessGate }}
readinessGates:
- conditionType: production-stack.vllm-project/adapters-loaded
{{- end }}
securityContext:
  {{- if and $agent (not (include "vllm-lora.ids-are-given" $)) }}
  {{- /* the agent's group, which writes the disk */}}
  {{- toYaml (mergeOverwrite (dict "fsGroup" 65532) .podSecurityContext) | nindent 2 }}
  {{- else }}
  {{- toYaml .podSecurityContext | nindent 2 }}
  {{- end }}
{{- $own := and $agent (eq $delivery.kind "nodeDisk") }}
{{- if or $own .initContainers }}
initContainers:
{{- if $own }}
{{ include "vllm-lora.own-disk" $.root }}
{{- end }}
{{- with .initContainers }}
{{ toYaml . }}
{{- end }}
{{- end }}
containers:
{{ include "vllm-lora.engine" $ }}
{{- if $agent }}
{{ include "vllm-lora.agent" $ }}
{{- end }}
{{- with .extraContainers }}
{{ toYaml . }}
{{- end }}
volumes:
{{ include "vllm-lora.volumes" $ }}
{{- end }}
{{- end -}}

{{/* Whether the cluster gives containers their users and groups, as OpenShift does, and refuses others. */}}
{{- define "vllm-lora.ids-are-given" -}}
{{- if .root.Capabilities.APIVersions.Has "security.openshift.io/v1" }}yes{{ end }}
{{- end -}}
