// Package components, further: what k8s/overlays/production declares in the place of Redis. In a file of its own, since
// it is in the daprd of `tools/setup.sh production` alone (tools/programs.py).
package components

import (
	"github.com/dapr/components-contrib/pubsub/kafka"
	postgresqlState "github.com/dapr/components-contrib/state/postgresql/v2"
	"github.com/dapr/dapr/pkg/components"
	"github.com/dapr/dapr/pkg/components/pubsub"
	"github.com/dapr/dapr/pkg/components/state"
)

func init() {
	pubsub.DefaultRegistry.RegisterComponent(kafka.NewKafka, "kafka")
	// By its version too: without it a manifest that says v2 would find no component.
	state.DefaultRegistry.RegisterComponentWithVersions("postgresql", components.Versioning{
		Preferred: components.VersionConstructor{Version: "v2", Constructor: postgresqlState.NewPostgreSQLStateStore},
		Default:   "v2",
	})
}
