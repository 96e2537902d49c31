{{/*
Names and labels. The templates are called as those of CoreDNS's chart, because values may use them.
The default name is CoreDNS's, so that a release of its chart can be upgraded to this one.
*/}}

{{- define "coredns.name" -}}
{{- default "coredns" .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "coredns.fullname" -}}
{{- $name := include "coredns.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "coredns.k8sapplabel" -}}
{{- default "coredns" .Values.k8sAppLabelOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "coredns.serviceAccountName" -}}
{{- $default := ternary (include "coredns.fullname" .) "default" .Values.serviceAccount.create -}}
{{- default $default .Values.serviceAccount.name -}}
{{- end -}}

{{- define "coredns.clusterRoleName" -}}
{{- default (include "coredns.fullname" .) .Values.clusterRole.nameOverride -}}
{{- end -}}

{{/* The labels by which the pods are found: `list CONTEXT SUFFIX`, the suffix of their names. */}}
{{- define "ringdns.selector" -}}
{{- $context := index . 0 -}}
{{- $suffix := index . 1 -}}
{{- $labels := dict "app.kubernetes.io/instance" $context.Release.Name -}}
{{- $_ := set $labels "app.kubernetes.io/name" (print (include "coredns.name" $context) $suffix) -}}
{{- if $context.Values.isClusterService -}}
{{- $_ := set $labels "k8s-app" (print (include "coredns.k8sapplabel" $context) $suffix) -}}
{{- end -}}
{{- range $key, $value := $context.Values.customLabels -}}
{{- if hasKey $labels $key -}}{{- $_ := set $labels $key $value -}}{{- end -}}
{{- end -}}
{{- toYaml $labels -}}
{{- end -}}

{{/* `metadata` of an object: `dict context name suffix labels annotations`. */}}
{{- define "ringdns.metadata" -}}
{{- $context := .context -}}
{{- $suffix := default "" .suffix -}}
{{- $labels := include "ringdns.selector" (list $context $suffix) | fromYaml -}}
{{- $_ := set $labels "app.kubernetes.io/managed-by" $context.Release.Service -}}
{{- $chart := printf "%s-%s" $context.Chart.Name $context.Chart.Version | replace "+" "_" -}}
{{- $_ := set $labels "helm.sh/chart" $chart -}}
{{- if $context.Values.isClusterService -}}
{{- $_ := set $labels "kubernetes.io/cluster-service" "true" -}}
{{- $_ := set $labels "kubernetes.io/name" "CoreDNS" -}}
{{- end -}}
{{- $labels = mergeOverwrite $labels (default dict .labels) $context.Values.customLabels -}}
{{- $annotations := dict -}}
{{- range .annotations -}}{{- $annotations = merge $annotations (default dict .) -}}{{- end -}}
{{- $annotations = mergeOverwrite $annotations $context.Values.customAnnotations -}}
name: {{ .name }}
{{- if not .cluster }}
namespace: {{ default $context.Release.Namespace .namespace }}
{{- end }}
labels:
  {{- toYaml $labels | nindent 2 }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* References to Secrets, from names or references. */}}
{{- define "ringdns.pullSecrets" -}}
{{- range . }}
- name: {{ kindIs "map" . | ternary . (dict "name" .) | dig "name" "" | quote }}
{{- end }}
{{- end -}}
