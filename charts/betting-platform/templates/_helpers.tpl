{{- define "betting.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}-operator
{{- end }}

{{- /* Of a role for people: (list $ "view"). */}}
{{- define "betting.role" -}}
{{ (index . 0).Release.Name | trunc 40 | trimSuffix "-" }}-{{ index . 1 }}
{{- end }}

{{- define "betting.selector" -}}
app.kubernetes.io/name: betting-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "betting.labels" -}}
{{ include "betting.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end }}

{{- define "betting.image" -}}
{{- if and .Values.image.tag .Values.image.digest }}{{ fail "image.tag and image.digest are both given: leave one of them empty" }}{{ end -}}
{{- $repository := .Values.image.repository -}}
{{- with .Values.image.registry }}{{ $repository = printf "%s/%s" . $repository }}{{ end -}}
{{- if .Values.image.digest -}}
{{ printf "%s@%s" $repository .Values.image.digest }}
{{- else -}}
{{ printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end -}}
{{- end }}

{{- /* Helm refuses a CustomResourceDefinition of another release too, but does not say what to do. `helm template` has no
cluster to look at and finds nothing. */}}
{{- define "betting.checkOwnerOfCrd" -}}
{{- $release := (index . 0).Release }}
{{- $crdName := index . 1 }}
{{- $crd := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" $crdName }}
{{- if $crd }}
{{- $annotations := $crd.metadata.annotations | default dict }}
{{- $name := index $annotations "meta.helm.sh/release-name" | default "" }}
{{- $namespace := index $annotations "meta.helm.sh/release-namespace" | default "" }}
{{- if not $name }}
{{- fail (printf "crds.install: the CustomResourceDefinition %s was not made by Helm. Keep it as it is with --set crds.install=false, or give it to this release: docs/operator/install.md" $crdName) }}
{{- else if or (ne $name $release.Name) (ne $namespace $release.Namespace) }}
{{- fail (printf "crds.install: the CustomResourceDefinition %s belongs to release %s in namespace %s, which upgrades it. Say --set crds.install=false here, or give it to this release: docs/operator/install.md" $crdName $name $namespace) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "betting.monitoringLabels" -}}
{{ include "betting.labels" . }}
{{- with .Values.monitoring.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Without them nobody would be alerted, and nobody would know: an error, not a note. */}}
{{- define "betting.checkMonitoring" -}}
{{- if not (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1") }}
{{- fail "monitoring.enabled: this cluster has no monitoring.coreos.com/v1. Install the Prometheus Operator first, or say --set monitoring.enabled=false (helm template is told by --api-versions monitoring.coreos.com/v1)" }}
{{- end }}
{{- end }}
