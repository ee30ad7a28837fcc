//! Options that callers pass to Create and Checkpoint, by the runc shim's names. What would be ignored is refused by its name.

use pintle_ttrpc::options::{CHECKPOINT, CheckpointOptions, RUNC, RUNTIME, RuncOptions, RuntimeOptions};
use pintle_ttrpc::{Any, Code};
use prost::Message;

use super::calls::Fault;

/// A field that is not honoured: its name, whether it is set, and what to do instead.
type Refused = (&'static str, fn(&RuncOptions) -> bool, &'static str);

const REFUSED: &[Refused] = &[
    ("ShimCgroup", |options| !options.shim_cgroup.is_empty(), "the shim stays in its starter's cgroup"),
    ("IoUid", |options| options.io_uid != 0, "the owner of stdio is the container's user"),
    ("IoGid", |options| options.io_gid != 0, "the owner of stdio is the container's user"),
    (
        "BinaryName",
        |options| !options.binary_name.is_empty(),
        "this shim is the runtime; io.containerd.runc.v2 calls others",
    ),
    ("Root", |options| !options.root.is_empty(), "state is in /run/containerd/pintle"),
    ("CriuPath", |options| !options.criu_path.is_empty(), "criu is found in $PATH"),
    ("TaskApiAddress", |options| !options.task_api_address.is_empty(), "the shim serves its tasks itself"),
    ("TaskApiVersion", |options| options.task_api_version != 0, "the shim serves its tasks itself"),
];

/// For Create.
pub fn of_create(any: Option<&Any>) -> Result<RuncOptions, Fault> {
    match any {
        Some(any) if any.type_url.ends_with(RUNC) => {
            let options: RuncOptions = decode(any)?;
            let refused = REFUSED.iter().find(|(_, is_set, _)| is_set(&options));
            refused
                .map_or(Ok(options), |(name, _, why)| Err(unknown(&format!("option {name} is not supported: {why}"))))
        }
        Some(any) if any.type_url.ends_with(RUNTIME) => {
            let options: RuntimeOptions = decode(any)?;
            if options.config_path.is_empty() && options.config_body.is_empty() {
                return Ok(RuncOptions::default());
            }
            Err(unknown("options ConfigPath and ConfigBody are not supported: this runtime has no configuration file"))
        }
        other => of_another_kind(other),
    }
}

/// For Checkpoint.
pub fn of_checkpoint(any: Option<&Any>) -> Result<CheckpointOptions, Fault> {
    match any {
        Some(any) if any.type_url.ends_with(CHECKPOINT) => decode(any),
        other => of_another_kind(other),
    }
}

fn of_another_kind<M: Default>(any: Option<&Any>) -> Result<M, Fault> {
    match any.filter(|any| !any.value.is_empty()) {
        None => Ok(M::default()),
        Some(any) => Err(unknown(&format!("options of type {:?} are not known here", any.type_url))),
    }
}

fn decode<M: Message + Default>(any: &Any) -> Result<M, Fault> {
    M::decode(any.value.as_slice()).map_err(|error| Fault::new(Code::InvalidArgument, format!("options: {error}")))
}

fn unknown(message: &str) -> Fault {
    Fault::new(Code::Unimplemented, message)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn any(kind: &str, message: &impl Message) -> Any {
        Any { type_url: kind.to_owned(), value: message.encode_to_vec() }
    }

    #[test]
    fn an_option_that_would_be_ignored_is_refused_by_its_name() {
        let default = RuncOptions::default;
        let table = [
            (RuncOptions { shim_cgroup: "x".to_owned(), ..default() }, Some("ShimCgroup")),
            (RuncOptions { io_uid: 1, ..default() }, Some("IoUid")),
            (RuncOptions { io_gid: 1, ..default() }, Some("IoGid")),
            (RuncOptions { binary_name: "crun".to_owned(), ..default() }, Some("BinaryName")),
            (RuncOptions { root: "/run/x".to_owned(), ..default() }, Some("Root")),
            (RuncOptions { criu_path: "/criu".to_owned(), ..default() }, Some("CriuPath")),
            (RuncOptions { task_api_address: "x".to_owned(), ..default() }, Some("TaskApiAddress")),
            (RuncOptions { task_api_version: 3, ..default() }, Some("TaskApiVersion")),
            (RuncOptions { no_pivot_root: true, no_new_keyring: true, systemd_cgroup: true, ..default() }, None),
            (RuncOptions { criu_image_path: "/i".to_owned(), criu_work_path: "/w".to_owned(), ..default() }, None),
        ];
        for (options, refused) in table {
            let answer = of_create(Some(&any(RUNC, &options)));
            match refused {
                None => assert_eq!(answer.unwrap(), options),
                Some(name) => {
                    let fault = answer.unwrap_err();
                    assert_eq!(fault.code as i32, Code::Unimplemented as i32);
                    assert!(
                        fault.message.starts_with(&format!("option {name} is not supported: ")),
                        "{}",
                        fault.message
                    );
                }
            }
        }
    }

    #[test]
    fn options_of_other_runtimes_are_refused_unless_they_say_nothing() {
        let empty = RuntimeOptions { type_url: "x".to_owned(), ..RuntimeOptions::default() };
        assert_eq!(of_create(Some(&any(RUNTIME, &empty))).unwrap(), RuncOptions::default());
        let full = RuntimeOptions { config_path: "/etc/x".to_owned(), ..RuntimeOptions::default() };
        assert!(of_create(Some(&any(RUNTIME, &full))).unwrap_err().message.contains("ConfigPath"));
        let other = Any { type_url: "io.x.Options".to_owned(), value: vec![8, 1] };
        assert_eq!(of_create(Some(&other)).unwrap_err().message, "options of type \"io.x.Options\" are not known here");
        assert_eq!(of_checkpoint(Some(&other)).unwrap_err().code as i32, Code::Unimplemented as i32);
        assert_eq!(of_create(None).unwrap(), RuncOptions::default());
        assert_eq!(of_checkpoint(None).unwrap(), CheckpointOptions::default());
    }
}
