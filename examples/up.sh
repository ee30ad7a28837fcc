#!/bin/sh
# `make up`: starts a cluster with web.yaml and shows that it works. Repeating it changes nothing.
#
#   STATE_DIR  the cluster's state    KUBECTL  the kubectl to use    arguments: further flags of `pintle up`
set -eu
cd "$(dirname "$0")/.."
: "${STATE_DIR:=/var/lib/pintle}" "${KUBECTL:=.cache/kubectl/v1.37/kubectl}"
IMAGE=pintle.example/busybox:1

say() { printf '\n== %s\n' "$*"; }

if [ "$(id -u)" != 0 ]; then
    echo 'error: starting a cluster needs root' >&2
    echo '  hint: sudo make up' >&2
    exit 3
fi

say "example image $IMAGE from Debian's busybox-static"
links=$(busybox --list | sed -n '/^busybox$/d; s|.*|--symlink=busybox:/bin/&|p')
# shellcheck disable=SC2086 # one word per link is what is wanted
bin/pintle image build --state-dir "$STATE_DIR" --name "$IMAGE" --file examples/busybox.yaml $links

say 'cluster'
bin/pintle up --state-dir "$STATE_DIR" "$@"
KUBECONFIG=$STATE_DIR/kubeconfig
export KUBECONFIG

say 'examples/web.yaml'
"$KUBECTL" apply -f examples/web.yaml
"$KUBECTL" rollout status deployment/web --timeout=60s

say 'nodes, pods, Service'
"$KUBECTL" get nodes -o wide
"$KUBECTL" get pods -l app=web -o wide
"$KUBECTL" get service web

say "ten requests to the Service's virtual IP"
ip=$("$KUBECTL" get service web -o jsonpath='{.spec.clusterIP}')
i=0
while [ $i -lt 10 ]; do
    i=$((i + 1))
    printf 'http://%s/  answered by  %s\n' "$ip" "$(curl -sS --max-time 5 "http://$ip/")"
done

cat <<END

The cluster stays up. Use it:

    export KUBECONFIG=$KUBECONFIG
    alias kubectl=$PWD/$KUBECTL
    kubectl get all -A
    kubectl exec -it deploy/web -- sh
    kubectl logs -f -l app=web --prefix

Logs of the components are in $STATE_DIR/log. Stop it with: make down
END
