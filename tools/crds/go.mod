module tools/crds

go 1.24.0

// Only downloaded, for the schemas of the kinds that overlays use: tools/manifests.py.
require (
	github.com/external-secrets/external-secrets v1.3.2
	github.com/kedacore/keda/v2 v2.21.0
	sigs.k8s.io/gateway-api v1.4.1
)
