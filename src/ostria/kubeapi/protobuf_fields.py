"""The numbers that fields have in Kubernetes' protobuf messages, for the kinds that kubectl and client-go send so.

Each message lists its fields by name, counted from 1; `=N` goes on from N. What follows a name:

* `?` a scalar that can be unset: zero, false and "" are values. Without it they are what is not written.
* `!` an object that is always sent: if it is empty, it is not written.
* `*MESSAGE` a message that JSON does not have: its fields are those of the object around it.

Types are those of the schemas, which is why they do not stand here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple


class Field(NamedTuple):
    """A field's name in JSON; whether its zero counts; whether it is left out if empty; the message it stands for."""

    name: str
    keeps_zero: bool = False
    drops_empty: bool = False
    inlined: str = ""


@lru_cache(maxsize=256)
def fields(message: str) -> dict[int, Field] | None:
    """The fields of a message by their numbers; None for a message that is not known.

    `message` is an OpenAPI definition without its first words: `core.v1.Pod`, `meta.v1.ObjectMeta`.
    """
    listed = _MESSAGES.get(message)
    if listed is None:
        return None
    found = {}
    number = 1
    for word in listed.split():
        if word.startswith("="):
            number = int(word[1:])
            continue
        name, _, inlined = word.partition("*")
        found[number] = Field(name.rstrip("?!"), name.endswith("?"), name.endswith("!"), inlined)
        number += 1
    return found


_OBJECT = "metadata! spec! status!"
_LOCAL = "localObjectReference*core.v1.LocalObjectReference"

_MESSAGES = {
    # meta
    "meta.v1.ObjectMeta": """name generateName namespace selfLink uid resourceVersion generation creationTimestamp
        deletionTimestamp deletionGracePeriodSeconds? labels annotations ownerReferences finalizers =17
        managedFields""",
    "meta.v1.OwnerReference": "kind =3 name uid apiVersion controller? blockOwnerDeletion?",
    "meta.v1.ManagedFieldsEntry": "manager operation apiVersion time =6 fieldsType fieldsV1 subresource",
    "meta.v1.LabelSelector": "matchLabels matchExpressions",
    "meta.v1.LabelSelectorRequirement": "key operator values",
    "meta.v1.DeleteOptions": """gracePeriodSeconds? preconditions orphanDependents? propagationPolicy? dryRun
        ignoreStoreReadErrorWithClusterBreakingPotential?""",
    "meta.v1.Preconditions": "uid? resourceVersion?",
    "meta.v1.Condition": "type status observedGeneration lastTransitionTime reason message",
    # core: small kinds
    "core.v1.Namespace": _OBJECT,
    "core.v1.NamespaceSpec": "finalizers",
    "core.v1.NamespaceStatus": "phase conditions",
    "core.v1.ConfigMap": "metadata! data binaryData immutable?",
    "core.v1.Secret": "metadata! data type stringData immutable?",
    "core.v1.ServiceAccount": "metadata! secrets imagePullSecrets automountServiceAccountToken?",
    "core.v1.ResourceQuota": _OBJECT,
    "core.v1.ResourceQuotaSpec": "hard scopes scopeSelector",
    "core.v1.ScopeSelector": "matchExpressions",
    "core.v1.ScopedResourceSelectorRequirement": "scopeName operator values",
    "core.v1.ResourceQuotaStatus": "hard used",
    "core.v1.ObjectReference": "kind namespace name uid apiVersion resourceVersion fieldPath",
    "core.v1.LocalObjectReference": "name",
    "core.v1.TypedLocalObjectReference": "apiGroup? kind name",
    "core.v1.TypedObjectReference": "apiGroup? kind name namespace?",
    "core.v1.Binding": "metadata! target!",
    "core.v1.Event": """metadata! involvedObject! reason message source! firstTimestamp lastTimestamp count type
        eventTime series action related reportingComponent reportingInstance""",
    "core.v1.EventSource": "component host",
    "core.v1.EventSeries": "count lastObservedTime",
    # core: services
    "core.v1.Service": _OBJECT,
    "core.v1.ServiceSpec": """ports selector clusterIP type externalIPs =7 sessionAffinity loadBalancerIP
        loadBalancerSourceRanges externalName externalTrafficPolicy healthCheckNodePort publishNotReadyAddresses
        sessionAffinityConfig =17 ipFamilyPolicy? clusterIPs ipFamilies allocateLoadBalancerNodePorts?
        loadBalancerClass? internalTrafficPolicy? trafficDistribution?""",
    "core.v1.ServicePort": "name protocol port targetPort! nodePort appProtocol?",
    "core.v1.SessionAffinityConfig": "clientIP",
    "core.v1.ClientIPConfig": "timeoutSeconds?",
    "core.v1.ServiceStatus": "loadBalancer! conditions",
    "core.v1.LoadBalancerStatus": "ingress",
    "core.v1.LoadBalancerIngress": "ip hostname ipMode? ports",
    # core: pods
    "core.v1.Pod": _OBJECT,
    "core.v1.PodStatus": """phase conditions message reason hostIP podIP startTime containerStatuses qosClass
        initContainerStatuses nominatedNodeName podIPs ephemeralContainerStatuses resize resourceClaimStatuses hostIPs
        observedGeneration""",
    "core.v1.PodTemplateSpec": "metadata! spec!",
    "core.v1.PodSpec": """volumes containers restartPolicy terminationGracePeriodSeconds? activeDeadlineSeconds?
        dnsPolicy nodeSelector serviceAccountName serviceAccount nodeName hostNetwork hostPID hostIPC securityContext
        imagePullSecrets hostname subdomain affinity schedulerName initContainers automountServiceAccountToken?
        tolerations hostAliases priorityClassName priority? dnsConfig shareProcessNamespace? readinessGates
        runtimeClassName? enableServiceLinks? preemptionPolicy? overhead topologySpreadConstraints ephemeralContainers
        setHostnameAsFQDN? os hostUsers? schedulingGates resourceClaims resources""",
    "core.v1.Container": """name image command args workingDir ports env resources! volumeMounts livenessProbe
        readinessProbe lifecycle terminationMessagePath imagePullPolicy securityContext stdin stdinOnce tty envFrom
        terminationMessagePolicy volumeDevices startupProbe resizePolicy restartPolicy?""",
    "core.v1.EphemeralContainer": "ephemeralContainerCommon*core.v1.Container targetContainerName",
    "core.v1.ContainerPort": "name hostPort containerPort protocol hostIP",
    "core.v1.ContainerResizePolicy": "resourceName restartPolicy",
    "core.v1.EnvVar": "name value valueFrom",
    "core.v1.EnvVarSource": "fieldRef resourceFieldRef configMapKeyRef secretKeyRef",
    "core.v1.EnvFromSource": "prefix configMapRef secretRef",
    "core.v1.ObjectFieldSelector": "apiVersion fieldPath",
    "core.v1.ResourceFieldSelector": "containerName resource divisor",
    "core.v1.ConfigMapKeySelector": f"{_LOCAL} key optional?",
    "core.v1.SecretKeySelector": f"{_LOCAL} key optional?",
    "core.v1.ConfigMapEnvSource": f"{_LOCAL} optional?",
    "core.v1.SecretEnvSource": f"{_LOCAL} optional?",
    "core.v1.ResourceRequirements": "limits requests claims",
    "core.v1.ResourceClaim": "name request",
    "core.v1.VolumeMount": "name readOnly mountPath subPath mountPropagation? subPathExpr recursiveReadOnly?",
    "core.v1.VolumeDevice": "name devicePath",
    "core.v1.Probe": """handler*core.v1.ProbeHandler initialDelaySeconds timeoutSeconds periodSeconds
        successThreshold failureThreshold terminationGracePeriodSeconds?""",
    "core.v1.Lifecycle": "postStart preStop stopSignal?",
    "core.v1.LifecycleHandler": "exec httpGet tcpSocket sleep",
    "core.v1.ProbeHandler": "exec httpGet tcpSocket grpc",
    "core.v1.ExecAction": "command",
    "core.v1.HTTPGetAction": "path port! host scheme httpHeaders",
    "core.v1.HTTPHeader": "name value",
    "core.v1.TCPSocketAction": "port! host",
    "core.v1.GRPCAction": "port service?",
    "core.v1.SleepAction": "seconds",
    "core.v1.SecurityContext": """capabilities privileged? seLinuxOptions runAsUser? runAsNonRoot?
        readOnlyRootFilesystem? allowPrivilegeEscalation? runAsGroup? procMount? windowsOptions seccompProfile
        appArmorProfile""",
    "core.v1.Capabilities": "add drop",
    "core.v1.SELinuxOptions": "user role type level",
    "core.v1.WindowsSecurityContextOptions": """gmsaCredentialSpecName? gmsaCredentialSpec? runAsUserName?
        hostProcess?""",
    "core.v1.SeccompProfile": "type localhostProfile?",
    "core.v1.AppArmorProfile": "type localhostProfile?",
    "core.v1.PodSecurityContext": """seLinuxOptions runAsUser? runAsNonRoot? supplementalGroups fsGroup? runAsGroup?
        sysctls windowsOptions fsGroupChangePolicy? seccompProfile appArmorProfile supplementalGroupsPolicy?
        seLinuxChangePolicy?""",
    "core.v1.Sysctl": "name value",
    "core.v1.HostAlias": "ip hostnames",
    "core.v1.PodDNSConfig": "nameservers searches options",
    "core.v1.PodDNSConfigOption": "name value?",
    "core.v1.PodReadinessGate": "conditionType",
    "core.v1.PodSchedulingGate": "name",
    "core.v1.PodResourceClaim": "name =3 resourceClaimName? resourceClaimTemplateName?",
    "core.v1.PodOS": "name",
    "core.v1.Toleration": "key operator value effect tolerationSeconds?",
    "core.v1.TopologySpreadConstraint": """maxSkew topologyKey whenUnsatisfiable labelSelector minDomains?
        nodeAffinityPolicy? nodeTaintsPolicy? matchLabelKeys""",
    "core.v1.Affinity": "nodeAffinity podAffinity podAntiAffinity",
    "core.v1.NodeAffinity": """requiredDuringSchedulingIgnoredDuringExecution
        preferredDuringSchedulingIgnoredDuringExecution""",
    "core.v1.NodeSelector": "nodeSelectorTerms",
    "core.v1.NodeSelectorTerm": "matchExpressions matchFields",
    "core.v1.NodeSelectorRequirement": "key operator values",
    "core.v1.PreferredSchedulingTerm": "weight preference!",
    "core.v1.PodAffinity": """requiredDuringSchedulingIgnoredDuringExecution
        preferredDuringSchedulingIgnoredDuringExecution""",
    "core.v1.PodAntiAffinity": """requiredDuringSchedulingIgnoredDuringExecution
        preferredDuringSchedulingIgnoredDuringExecution""",
    "core.v1.WeightedPodAffinityTerm": "weight podAffinityTerm!",
    "core.v1.PodAffinityTerm": """labelSelector namespaces topologyKey namespaceSelector matchLabelKeys
        mismatchLabelKeys""",
    # core: volumes. The network volumes that are not here are not read from protobuf.
    "core.v1.Volume": "name volumeSource*core.v1.VolumeSource",
    "core.v1.VolumeSource": """hostPath emptyDir =6 secret nfs =10 persistentVolumeClaim =16 downwardAPI =19 configMap
        =26 projected =28 csi ephemeral image""",
    "core.v1.HostPathVolumeSource": "path type?",
    "core.v1.EmptyDirVolumeSource": "medium sizeLimit",
    "core.v1.SecretVolumeSource": "secretName items defaultMode? optional?",
    "core.v1.KeyToPath": "key path mode?",
    "core.v1.NFSVolumeSource": "server path readOnly",
    "core.v1.PersistentVolumeClaimVolumeSource": "claimName readOnly",
    "core.v1.DownwardAPIVolumeSource": "items defaultMode?",
    "core.v1.DownwardAPIVolumeFile": "path fieldRef resourceFieldRef mode?",
    "core.v1.ConfigMapVolumeSource": f"{_LOCAL} items defaultMode? optional?",
    "core.v1.ProjectedVolumeSource": "sources defaultMode?",
    "core.v1.VolumeProjection": "secret downwardAPI configMap serviceAccountToken clusterTrustBundle",
    "core.v1.SecretProjection": f"{_LOCAL} items =4 optional?",
    "core.v1.ConfigMapProjection": f"{_LOCAL} items =4 optional?",
    "core.v1.DownwardAPIProjection": "items",
    "core.v1.ServiceAccountTokenProjection": "audience expirationSeconds? path",
    "core.v1.ClusterTrustBundleProjection": "name? signerName? labelSelector path optional?",
    "core.v1.CSIVolumeSource": "driver readOnly? fsType? volumeAttributes nodePublishSecretRef",
    "core.v1.EphemeralVolumeSource": "volumeClaimTemplate",
    "core.v1.PersistentVolumeClaimTemplate": "metadata! spec!",
    "core.v1.PersistentVolumeClaimSpec": """accessModes resources! volumeName selector storageClassName? volumeMode?
        dataSource dataSourceRef volumeAttributesClassName?""",
    "core.v1.VolumeResourceRequirements": "limits requests",
    "core.v1.ImageVolumeSource": "reference pullPolicy",
    # apps, batch
    "apps.v1.Deployment": _OBJECT,
    "apps.v1.DeploymentSpec": """replicas? selector template! strategy! minReadySeconds revisionHistoryLimit? paused
        =9 progressDeadlineSeconds?""",
    "apps.v1.DeploymentStrategy": "type rollingUpdate",
    "apps.v1.RollingUpdateDeployment": "maxUnavailable maxSurge",
    "apps.v1.DeploymentStatus": """observedGeneration replicas updatedReplicas availableReplicas unavailableReplicas
        conditions readyReplicas collisionCount? terminatingReplicas?""",
    "batch.v1.Job": _OBJECT,
    "batch.v1.JobSpec": """parallelism? completions? activeDeadlineSeconds? selector manualSelector? template!
        backoffLimit? ttlSecondsAfterFinished? completionMode? suspend? podFailurePolicy backoffLimitPerIndex?
        maxFailedIndexes? podReplacementPolicy? managedBy? successPolicy""",
    "batch.v1.PodFailurePolicy": "rules",
    "batch.v1.PodFailurePolicyRule": "action onExitCodes onPodConditions",
    "batch.v1.PodFailurePolicyOnExitCodesRequirement": "containerName? operator values",
    "batch.v1.PodFailurePolicyOnPodConditionsPattern": "type status",
    "batch.v1.SuccessPolicy": "rules",
    "batch.v1.SuccessPolicyRule": "succeededIndexes? succeededCount?",
    "batch.v1.JobStatus": """conditions startTime completionTime active succeeded failed completedIndexes
        uncountedTerminatedPods
        ready? failedIndexes? terminating?""",
    "batch.v1.CronJob": _OBJECT,
    "batch.v1.CronJobSpec": """schedule startingDeadlineSeconds? concurrencyPolicy suspend? jobTemplate!
        successfulJobsHistoryLimit? failedJobsHistoryLimit? timeZone?""",
    "batch.v1.JobTemplateSpec": "metadata! spec!",
    "batch.v1.CronJobStatus": "active =4 lastScheduleTime lastSuccessfulTime",
    # rbac
    "rbac.v1.Role": "metadata! rules",
    "rbac.v1.ClusterRole": "metadata! rules aggregationRule",
    "rbac.v1.AggregationRule": "clusterRoleSelectors",
    "rbac.v1.PolicyRule": "verbs apiGroups resources resourceNames nonResourceURLs",
    "rbac.v1.RoleBinding": "metadata! subjects roleRef!",
    "rbac.v1.ClusterRoleBinding": "metadata! subjects roleRef!",
    "rbac.v1.Subject": "kind apiGroup name namespace",
    "rbac.v1.RoleRef": "apiGroup kind name",
    # networking, policy, scheduling, autoscaling, coordination
    "networking.v1.Ingress": _OBJECT,
    "networking.v1.IngressSpec": "defaultBackend tls rules ingressClassName?",
    "networking.v1.IngressTLS": "hosts secretName",
    "networking.v1.IngressRule": "host ingressRuleValue*networking.v1.IngressRuleValue",
    "networking.v1.IngressRuleValue": "http",
    "networking.v1.HTTPIngressRuleValue": "paths",
    "networking.v1.HTTPIngressPath": "path backend! pathType?",
    "networking.v1.IngressBackend": "=3 resource service",
    "networking.v1.IngressServiceBackend": "name port!",
    "networking.v1.ServiceBackendPort": "name number",
    "networking.v1.IngressStatus": "loadBalancer!",
    "networking.v1.IngressLoadBalancerStatus": "ingress",
    "policy.v1.PodDisruptionBudget": _OBJECT,
    "policy.v1.PodDisruptionBudgetSpec": "minAvailable selector maxUnavailable unhealthyPodEvictionPolicy?",
    "policy.v1.PodDisruptionBudgetStatus": """observedGeneration disruptedPods disruptionsAllowed currentHealthy
        desiredHealthy expectedPods conditions""",
    "policy.v1.Eviction": "metadata! deleteOptions",
    "scheduling.v1.PriorityClass": "metadata! value globalDefault description preemptionPolicy?",
    "autoscaling.v1.Scale": _OBJECT,
    "autoscaling.v1.ScaleSpec": "replicas",
    "autoscaling.v1.ScaleStatus": "replicas selector",
    "autoscaling.v1.HorizontalPodAutoscaler": _OBJECT,
    "autoscaling.v1.HorizontalPodAutoscalerSpec": """scaleTargetRef! minReplicas? maxReplicas
        targetCPUUtilizationPercentage?""",
    "autoscaling.v1.CrossVersionObjectReference": "kind name apiVersion",
    "autoscaling.v1.HorizontalPodAutoscalerStatus": """observedGeneration? lastScaleTime? currentReplicas
        desiredReplicas currentCPUUtilizationPercentage?""",
    "autoscaling.v2.HorizontalPodAutoscaler": _OBJECT,
    "autoscaling.v2.HorizontalPodAutoscalerSpec": "scaleTargetRef! minReplicas? maxReplicas metrics behavior",
    "autoscaling.v2.CrossVersionObjectReference": "kind name apiVersion",
    "autoscaling.v2.MetricSpec": "type object pods resource external =7 containerResource",
    "autoscaling.v2.ResourceMetricSource": "name target!",
    "autoscaling.v2.MetricTarget": "type value averageValue averageUtilization?",
    "autoscaling.v2.HorizontalPodAutoscalerStatus": """observedGeneration? lastScaleTime currentReplicas
        desiredReplicas currentMetrics conditions""",
    "certificates.v1.CertificateSigningRequest": "metadata! spec! status!",
    "certificates.v1.CertificateSigningRequestSpec": """request username uid groups usages extra signerName
        expirationSeconds?""",
    "certificates.v1.CertificateSigningRequestStatus": "conditions certificate",
    "certificates.v1.CertificateSigningRequestCondition": """type reason message lastUpdateTime lastTransitionTime
        status""",
    "coordination.v1.Lease": "metadata! spec!",
    "coordination.v1.LeaseSpec": """holderIdentity? leaseDurationSeconds? acquireTime renewTime leaseTransitions?
        strategy? preferredHolder?""",
    # authentication, authorization
    "authentication.v1.TokenRequest": _OBJECT,
    "authentication.v1.TokenRequestSpec": "audiences =3 boundObjectRef expirationSeconds?",
    "authentication.v1.BoundObjectReference": "kind apiVersion name uid",
    "authentication.v1.TokenRequestStatus": "token expirationTimestamp",
    "authentication.v1.TokenReview": _OBJECT,
    "authentication.v1.TokenReviewSpec": "token audiences",
    "authentication.v1.TokenReviewStatus": "authenticated user! error audiences",
    "authentication.v1.SelfSubjectReview": "metadata! status!",
    "authentication.v1.SelfSubjectReviewStatus": "userInfo!",
    "authentication.v1.UserInfo": "username uid groups extra",
    "authorization.v1.SelfSubjectAccessReview": _OBJECT,
    "authorization.v1.SelfSubjectAccessReviewSpec": "resourceAttributes nonResourceAttributes",
    "authorization.v1.SelfSubjectRulesReview": _OBJECT,
    "authorization.v1.SelfSubjectRulesReviewSpec": "namespace",
    "authorization.v1.SubjectRulesReviewStatus": "resourceRules nonResourceRules incomplete evaluationError",
    "authorization.v1.SubjectAccessReview": _OBJECT,
    "authorization.v1.LocalSubjectAccessReview": _OBJECT,
    "authorization.v1.SubjectAccessReviewSpec": """resourceAttributes nonResourceAttributes user groups extra uid""",
    "authorization.v1.SubjectAccessReviewStatus": "allowed reason evaluationError denied",
    "authorization.v1.ResourceAttributes": """namespace verb group version resource subresource name fieldSelector
        labelSelector""",
    "authorization.v1.NonResourceAttributes": "path verb",
    "authorization.v1.FieldSelectorAttributes": "rawSelector requirements",
    "authorization.v1.LabelSelectorAttributes": "rawSelector requirements",
    "meta.v1.FieldSelectorRequirement": "key operator values",
}
