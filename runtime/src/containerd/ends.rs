//! How processes end: who is told, and what is kept of an end that comes before anybody has said what the process is.

use pintle_ttrpc::Timestamp;
use pintle_ttrpc::events::TaskExit;
use pintle_ttrpc::task::WaitResponse;
use prost::Message as _;

use super::jobs::Kind;
use super::process::Exit;
use super::server::Server;
use crate::clock;

impl Server {
    /// Tells everybody who wants to know.
    pub(super) fn process_ended(&mut self, serial: u64, status: i32) {
        let starting = self.is_starting(serial);
        let Some(process) = self.processes.get_mut(&serial) else { return };
        if starting {
            // containerd must hear of the start before it hears of the end.
            process.ended_early = Some(status);
            return;
        }
        let exit = Exit { status: status as u32, at: Timestamp::from_ns(clock::now_ns()) };
        process.exit = Some(exit);
        process.io.process_ended();
        let waiting = std::mem::take(&mut process.waiting);
        let event = TaskExit {
            container_id: process.task.clone(),
            id: if process.is_init() { process.task.clone() } else { process.exec.clone() },
            pid: process.pid as u32,
            exit_status: exit.status,
            exited_at: Some(exit.at),
        };
        let (task, init) = (process.task.clone(), process.is_init());
        self.task_lost_one(&task, init);
        self.events.publish("/tasks/exit", "TaskExit", &event);
        let response = WaitResponse { exit_status: exit.status, exited_at: Some(exit.at) }.encode_to_vec();
        for caller in waiting {
            self.respond(caller, Ok(response.clone()));
        }
    }

    /// Looks whether the memory killer struck, and ends what init's death has left.
    fn task_lost_one(&mut self, id: &str, init: bool) {
        self.look_for_kills(id);
        let Some(task) = self.tasks.get_mut(id) else { return };
        if init
            && !task.own_pid_ns
            && let Err(error) = task.cgroups.signal(libc::SIGKILL)
        {
            crate::log::warn(&format!("end the processes of {id}: {error}"));
        }
    }

    /// Whether a start is under way that has not yet said whether the program runs.
    fn is_starting(&self, serial: u64) -> bool {
        self.jobs.values().any(|job| matches!(job.kind, Kind::Start(process) if process == serial))
            && self.processes.get(&serial).is_some_and(|process| !process.started)
    }

    pub(super) fn tell_early_end(&mut self, serial: u64) {
        if let Some(status) = self.processes.get_mut(&serial).and_then(|process| process.ended_early.take()) {
            self.process_ended(serial, status);
        }
    }

    /// The end of a process we do not know is kept while a worker may be about to tell us of it.
    pub(super) fn keep_stray(&mut self, pid: i32, status: i32) {
        if self.jobs.values().any(|job| matches!(job.kind, Kind::Create(_) | Kind::Start(_))) {
            self.strays.push((pid, status));
        }
    }

    pub(super) fn end_of_stray(&mut self, serial: u64, pid: i32) {
        if let Some(at) = self.strays.iter().position(|stray| stray.0 == pid) {
            let (_, status) = self.strays.swap_remove(at);
            self.process_ended(serial, status);
        }
    }
}
