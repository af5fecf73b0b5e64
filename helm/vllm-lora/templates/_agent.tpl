{{/* The agent of a model's pods: {root, model}. */}}
{{- define "vllm-lora.agent" -}}
{{- $delivery := .root.Values.delivery }}
{{- with $delivery.agent -}}
- name: agent
  image: {{ .image }}
  imagePullPolicy: {{ .imagePullPolicy }}
  args:
  - agent
  - --root={{ $delivery.root }}
  - --pod=$(POD_NAMESPACE)/$(POD_NAME)
  - --pod-uid=$(POD_UID)
  - --engine-port={{ $.model.port }}
  - --token-file=/etc/lora-agent/token
  - --cache-bytes={{ include "vllm-lora.size" $delivery.cacheBytes }}
  - --port={{ .port }}
  {{- if and $.root.Values.hardened (not (hasKey .settings "denyPrivate")) }}
  - --deny-private
  {{- end }}
  {{- if .ca.configMap }}
  - --ca-file=/etc/lora-ca/{{ .ca.key }}
  {{- end }}
  {{- with .settings }}
  {{- include "settings.flags" . | trim | nindent 2 }}
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
  {{- toYaml . | nindent 2 }}
  {{- end }}
  ports:
  - name: lora-agent  # by this name the operator finds it
    containerPort: {{ .port }}
  readinessProbe:  # opens the pod once its adapters are loaded, or after a time, and stays so for that engine
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
    {{- toYaml .resources | nindent 4 }}
  securityContext:
    runAsNonRoot: true
    {{- if not (include "vllm-lora.ids-are-given" $) }}
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
  - name: adapters
    mountPath: {{ $delivery.root }}
  - name: token
    mountPath: /etc/lora-agent
    readOnly: true
  {{- if .ca.configMap }}
  - name: ca
    mountPath: /etc/lora-ca
    readOnly: true
  {{- end }}
{{- end }}
{{- end -}}

{{/* The kubelet makes the folder of a hostPath for root, and fsGroup does not reach it. */}}
{{- define "vllm-lora.own-disk" -}}
{{- with .Values.delivery -}}
- name: own-disk
  image: {{ .agent.image }}
  imagePullPolicy: {{ .agent.imagePullPolicy }}
  command: [python3, -c, "import os, sys; os.chown(sys.argv[1], 65532, 65532)"]
  args: [{{ .root | quote }}]
  resources:
    requests:
      cpu: 10m
      memory: 32Mi
    limits:
      memory: 128Mi
  securityContext:
    runAsUser: 0
    runAsGroup: 0
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]
      add: [CHOWN]
    seccompProfile:
      type: RuntimeDefault
  volumeMounts:
  - name: adapters
    mountPath: {{ .root }}
{{- end }}
{{- end -}}
