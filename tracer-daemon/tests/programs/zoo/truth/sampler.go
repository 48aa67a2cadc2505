//go:build sampler

package truth

// As most services have it: with it linked the runtime keeps a heap profile. Nothing listens.
import _ "net/http/pprof"
