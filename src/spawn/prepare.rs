//! Everything that a child needs, made before it exists: after the clone there is no allocation.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use super::Request;
use super::child::{Move, Plan, SessionPlan};
use super::words::Words;
use crate::spec::{Descriptor, QueueEnd, Session};
use crate::sys::fd;

/// What an enclosing fated said about descriptors that it gave to us; a child of ours does not have them.
const QUEUE_PREFIX: &[u8] = b"FATED_QUEUE_";

/// The plan, and the descriptors that the child uses until it has a table of its own.
pub(super) fn prepare(
    request: &Request<'_>,
    supervisor: BorrowedFd<'_>,
    report: OwnedFd,
) -> io::Result<(Plan, Vec<OwnedFd>)> {
    let Targets { given, supervisor, variables } = targets(request, supervisor)?;
    let words = Words::new(request.spec, &environment(request, &variables))?;
    // Above every target no source is overwritten before it is in its place.
    let above = given.iter().map(|(target, _)| *target).max().unwrap_or(2) + 1;
    let mut held = Vec::with_capacity(given.len() + 2);
    let mut hold = |fd: BorrowedFd<'_>| {
        let copy = fd::duplicate_from(fd, above)?;
        let number = copy.as_raw_fd();
        held.push(copy);
        Ok::<RawFd, io::Error>(number)
    };
    let moves =
        given.into_iter().map(|(to, source)| Ok(Move { from: hold(source)?, to })).collect::<io::Result<Vec<_>>>()?;
    let session = match (request.spec.session, request.foreground) {
        (Session::Own, _) => SessionPlan::Own,
        (Session::Terminal, None) => SessionPlan::Group,
        (Session::Terminal, Some(terminal)) => SessionPlan::Foreground(hold(terminal)?),
    };
    let report = hold(report.as_fd())?;
    let highest = held.iter().map(AsRawFd::as_raw_fd).max().unwrap_or(above);
    let plan = Plan {
        report,
        above,
        highest,
        close_to: highest,
        moves,
        session,
        descriptor_limit: request.descriptor_limit,
        parent_death: request.spec.parent_death_signal.map_or(0, |signal| signal.number()),
        supervisor,
        ignored: request.spec.ignored_signals.iter().fold(0, |set, signal| set | 1 << (signal.number() - 1)),
        words,
    };
    Ok((plan, held))
}

/// What the process finds open, and the variables that tell it.
struct Targets<'a> {
    /// The number in the process, and what is to be there.
    given: Vec<(RawFd, BorrowedFd<'a>)>,
    /// Where the supervisor's pidfd is.
    supervisor: RawFd,
    variables: Vec<(OsString, OsString)>,
}

fn targets<'a>(request: &Request<'a>, pidfd: BorrowedFd<'a>) -> io::Result<Targets<'a>> {
    let mut given: Vec<_> = (0..).zip(request.stdio).collect();
    let mut supervisor = -1;
    let mut variables = Vec::new();
    for (target, descriptor) in request.spec.descriptors() {
        match descriptor {
            Descriptor::SupervisorPidfd => {
                supervisor = target;
                given.push((target, pidfd));
                variables.push(("FATED_PIDFD".to_owned(), target.to_string()));
            }
            Descriptor::Readiness => given.push((target, request.ready.ok_or_else(missing)?)),
            Descriptor::Queue(queue, end) => {
                let used = request.spec.queues.iter().position(|usage| usage.queue == queue);
                let grant = used.and_then(|used| request.queues.get(used)).ok_or_else(missing)?;
                let (fd, suffix) = match end {
                    QueueEnd::Put => (grant.put, "PUT"),
                    QueueEnd::Get => (grant.get, "GET"),
                };
                given.push((target, fd.ok_or_else(missing)?));
                let prefix = format!("FATED_QUEUE_{}", grant.name.env_part());
                variables.push((format!("{prefix}_{suffix}"), target.to_string()));
                variables.push((format!("{prefix}_MAX"), grant.message_max.to_string()));
            }
        }
    }
    let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    Ok(Targets { given, supervisor, variables })
}

/// A descriptor that the specification names and the request lacks.
fn missing() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

/// The process's variables in the order in which they came; of several with one name the last.
fn environment<'a>(request: &'a Request<'_>, descriptors: &'a [(OsString, OsString)]) -> Vec<(&'a OsStr, &'a OsStr)> {
    let spec = request.spec;
    let inherited = spec.shared_env.iter().filter(|(name, _)| !name.as_bytes().starts_with(QUEUE_PREFIX));
    let ours = request.env.iter().chain(descriptors);
    let id = (OsStr::new("FATED_ID"), OsStr::new(request.id));
    let all: Vec<(&OsStr, &OsStr)> = inherited
        .chain(&spec.own_env)
        .chain(ours)
        .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
        .chain([id])
        .collect();
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|place| all[*place].0);
    let mut wins = vec![true; all.len()];
    // The sort is stable: of two neighbours with one name the second came later.
    for pair in order.windows(2) {
        wins[pair[0]] = all[pair[0]].0 != all[pair[1]].0;
    }
    all.into_iter().zip(wins).filter_map(|(variable, wins)| wins.then_some(variable)).collect()
}
