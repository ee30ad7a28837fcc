//! The kinds that controllers read whole; of every other they see metadata only.

/// `[(kind, function::<Type>), …]` for a generic function that makes something of each kind.
#[macro_export]
macro_rules! typed_kinds {
    ($make:ident) => {
        $crate::typed_kinds!($make:
            core::v1::Pod, core::v1::Node, core::v1::Namespace, core::v1::Service, core::v1::ServiceAccount,
            core::v1::Endpoints, discovery::v1::EndpointSlice, apps::v1::Deployment, apps::v1::ReplicaSet,
            apps::v1::DaemonSet, apps::v1::ControllerRevision, batch::v1::Job, coordination::v1::Lease,
            certificates::v1::CertificateSigningRequest,
        )
    };
    ($make:ident: $($group:ident::$version:ident::$kind:ident,)*) => {
        &[$((
            $crate::controllers::KindRef::of::<k8s_openapi::api::$group::$version::$kind>(),
            $make::<k8s_openapi::api::$group::$version::$kind>,
        )),*]
    };
}
