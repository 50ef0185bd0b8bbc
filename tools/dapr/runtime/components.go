// Package components is what our daprd can load: just what this repository declares, in components/, the tests and k8s/.
// It takes the place of a file in Dapr's cmd/daprd/components when tools/programs.py builds daprd; the official program
// registers 130 of these and takes three times as long to build. To add one, copy its registration from the file named
// after it in that folder. A daprd that was found on the machine has them all.
package components

import (
	kubernetesNames "github.com/dapr/components-contrib/nameresolution/kubernetes"
	"github.com/dapr/components-contrib/nameresolution/mdns"
	"github.com/dapr/components-contrib/nameresolution/sqlite"
	redisPubsub "github.com/dapr/components-contrib/pubsub/redis"
	kubernetesSecrets "github.com/dapr/components-contrib/secretstores/kubernetes"
	"github.com/dapr/components-contrib/secretstores/local/file"
	redisState "github.com/dapr/components-contrib/state/redis"
	"github.com/dapr/dapr/pkg/components/nameresolution"
	"github.com/dapr/dapr/pkg/components/pubsub"
	"github.com/dapr/dapr/pkg/components/secretstores"
	"github.com/dapr/dapr/pkg/components/state"
)

func init() {
	nameresolution.DefaultRegistry.RegisterComponent(kubernetesNames.NewResolver, "kubernetes")
	nameresolution.DefaultRegistry.RegisterComponent(mdns.NewResolver, "mdns")
	nameresolution.DefaultRegistry.RegisterComponent(sqlite.NewResolver, "sqlite")
	pubsub.DefaultRegistry.RegisterComponent(redisPubsub.NewRedisStreams, "redis")
	secretstores.DefaultRegistry.RegisterComponent(kubernetesSecrets.NewKubernetesSecretStore, "kubernetes")
	secretstores.DefaultRegistry.RegisterComponent(file.NewLocalSecretStore, "local.file")
	state.DefaultRegistry.RegisterComponent(redisState.NewRedisStateStore, "redis")
}
