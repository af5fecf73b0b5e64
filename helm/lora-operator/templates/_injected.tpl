{{/* The agent that is put into pods which ask for it, as a native sidecar. {port} stands for the engine's. */}}
{{- define "lora-operator.injected-agent" -}}
{{- with .Values.agentInjection -}}
name: lora-agent
image: {{ include "lora-operator.image" $ }}
imagePullPolicy: {{ $.Values.image.pullPolicy }}
restartPolicy: Always
args:
- agent
- --root=/adapters
- --pod=$(POD_NAMESPACE)/$(POD_NAME)
- --pod-uid=$(POD_UID)
- --engine-port={port}
- --token-file=/etc/lora-agent/token
- --cache-bytes={{ .cacheBytes }}
{{- if and $.Values.hardened (not (hasKey .settings "denyPrivate")) }}
- --deny-private
{{- end }}
{{- if .caConfigMap }}
- --ca-file=/etc/lora-ca/{{ $.Values.ca.key }}
{{- end }}
{{- with .settings }}
{{- include "settings.flags" . | trim | nindent 0 }}
{{- end }}
env:
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_UID
  valueFrom:
    fieldRef:
      fieldPath: metadata.uid
{{- with .env }}
{{ toYaml . }}
{{- end }}
ports:
- name: lora-agent
  containerPort: 8090
readinessProbe:
  httpGet:
    path: /readyz
    port: lora-agent
  periodSeconds: 2
  timeoutSeconds: 5
livenessProbe:
  httpGet:
    path: /healthz
    port: lora-agent
  timeoutSeconds: 5
  failureThreshold: 6
resources:
  {{- toYaml .resources | nindent 2 }}
securityContext:
  runAsNonRoot: true
  {{- if not ($.Capabilities.APIVersions.Has "security.openshift.io/v1") }}
  runAsUser: 65532
  runAsGroup: 65532
  {{- end }}
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
volumeMounts:
- name: lora-adapters
  mountPath: /adapters
- name: lora-agent-token
  mountPath: /etc/lora-agent
  readOnly: true
{{- if .caConfigMap }}
- name: lora-ca
  mountPath: /etc/lora-ca
  readOnly: true
{{- end }}
{{- end }}
{{- end -}}

{{/* The version in which the cluster has MutatingAdmissionPolicy: v1 since 1.36, v1beta1 where that is switched on. */}}
{{- define "lora-operator.mutating-policies" -}}
{{- if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" -}}
admissionregistration.k8s.io/v1
{{- else if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy" -}}
admissionregistration.k8s.io/v1beta1
{{- end -}}
{{- end -}}

{{/* Who puts agents into pods: policy, webhook, or nobody. */}}
{{- define "lora-operator.injection" -}}
{{- if .Values.agentInjection.enabled -}}
{{- $policy := include "lora-operator.mutating-policies" . -}}
{{- if eq .Values.agentInjection.by "auto" -}}
{{- ternary "policy" "webhook" (ne $policy "") -}}
{{- else if or $policy (ne .Values.agentInjection.by "policy") -}}
{{ .Values.agentInjection.by }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Of which pods: what the policy and the webhook are asked about. */}}
{{- define "lora-operator.injected-pods" -}}
{{- with .Values.watchNamespaces }}
namespaceSelector:
  matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: In
    values: {{ toJson . }}
{{- end }}
objectSelector:
  matchLabels:
    production-stack.vllm-project/agent: inject
{{- end -}}

{{/* Its volumes, that of the adapters first. */}}
{{- define "lora-operator.injected-volumes" -}}
{{- with .Values.agentInjection -}}
volumes:
- name: lora-adapters
  emptyDir:
    sizeLimit: {{ .size }}
- name: lora-agent-token
  secret:
    secretName: lora-agent-token
{{- with .caConfigMap }}
- name: lora-ca
  configMap:
    name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Both, as JSON for the webhook. */}}
{{- define "lora-operator.injected" -}}
{{- $agent := include "lora-operator.injected-agent" . | fromYaml -}}
{{- $volumes := include "lora-operator.injected-volumes" . | fromYaml -}}
{{ dict "agent" $agent "volumes" $volumes.volumes | toJson }}
{{- end -}}

{{/* The name of the webhook's Service, certificate and ConfigMap. */}}
{{- define "lora-operator.webhook" -}}
{{ include "lora-operator.name" . }}-webhook
{{- end -}}
