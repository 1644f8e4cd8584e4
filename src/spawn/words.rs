//! The strings of an exec in the form that the kernel takes: one block of bytes, one block of pointers into it.

use core::cell::Cell;
use core::ffi::c_char;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

use crate::spec::ProcessSpec;

/// Where programs are looked for when the process's own environment has no PATH.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

/// What runs a text file that begins with no `#!`.
const SHELL: &[u8] = b"/bin/sh";

/// argv, envp, the working directory, and every file that may be the program.
#[derive(Debug)]
pub(super) struct Words {
    bytes: Vec<u8>,
    /// Four lists, each but the first ended by a null pointer: the shell alone, argv, envp, candidates. The shell lies
    /// before argv, so that the two together are the shell's own argv once a candidate has replaced argv[0].
    pointers: Vec<Cell<*const c_char>>,
    envp: usize,
    candidates: usize,
    cwd: Option<usize>,
    command: usize,
}

impl Words {
    /// `environment`: names and values as the process gets them; its PATH is the one that is searched.
    ///
    /// # Errors
    /// EINVAL: a string holds a NUL byte.
    pub(super) fn new(spec: &ProcessSpec, environment: &[(&OsStr, &OsStr)]) -> io::Result<Self> {
        let command = spec.command.first().map_or(&b""[..], |command| command.as_bytes());
        let search = environment.iter().find(|(name, _)| *name == "PATH");
        let search = search.map_or(DEFAULT_PATH, |(_, path)| path.as_bytes());
        let mut block = Block::with_room_for(spec, environment);

        let shell = block.push(&[SHELL])?;
        let command_at = block.bytes.len();
        for word in &spec.command {
            block.push(&[word.as_bytes()])?;
        }
        block.end_list();
        let envp = block.offsets.len();
        for (name, value) in environment {
            block.push(&[name.as_bytes(), b"=", value.as_bytes()])?;
        }
        block.end_list();
        let candidates = block.offsets.len();
        if command.is_empty() || command.contains(&b'/') {
            block.push(&[command])?;
        } else {
            for directory in search.split(|byte| *byte == b':') {
                // An empty entry is the working directory.
                let directory = if directory.is_empty() { b"." } else { directory };
                block.push(&[directory, b"/", command])?;
            }
        }
        block.end_list();
        let cwd = match &spec.cwd {
            None => None,
            Some(cwd) => Some(block.append(&[cwd.as_os_str().as_bytes()])?),
        };
        debug_assert_eq!(shell, 0);

        let base = block.bytes.as_ptr();
        let pointer =
            |offset: Option<usize>| offset.map_or(core::ptr::null(), |offset| base.wrapping_add(offset).cast());
        let pointers = block.offsets.iter().map(|offset| Cell::new(pointer(*offset))).collect();
        Ok(Self { bytes: block.bytes, pointers, envp, candidates, cwd, command: command_at })
    }

    /// argv, ended by a null pointer.
    pub(super) fn argv(&self) -> &[Cell<*const c_char>] {
        self.pointers.get(1..self.envp).unwrap_or_default()
    }

    /// The shell, then argv.
    pub(super) fn shell_argv(&self) -> &[Cell<*const c_char>] {
        self.pointers.get(..self.envp).unwrap_or_default()
    }

    /// envp, ended by a null pointer.
    pub(super) fn envp(&self) -> &[Cell<*const c_char>] {
        self.pointers.get(self.envp..self.candidates).unwrap_or_default()
    }

    /// The files to try, in their order, ended by a null pointer.
    pub(super) fn candidates(&self) -> &[Cell<*const c_char>] {
        self.pointers.get(self.candidates..).unwrap_or_default()
    }

    /// The directory to enter; null to stay.
    pub(super) fn cwd(&self) -> *const c_char {
        self.cwd.map_or(core::ptr::null(), |cwd| self.bytes.as_ptr().wrapping_add(cwd).cast())
    }

    /// The command as it was written, for messages.
    pub(super) fn command_text(&self) -> String {
        self.text(self.command)
    }

    /// The working directory, for messages.
    pub(super) fn cwd_text(&self) -> String {
        self.cwd.map(|cwd| self.text(cwd)).unwrap_or_default()
    }

    fn text(&self, offset: usize) -> String {
        let bytes = self.bytes.get(offset..).unwrap_or_default();
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }
}

/// Strings under construction: places instead of pointers, since the block may still move.
struct Block {
    bytes: Vec<u8>,
    offsets: Vec<Option<usize>>,
}

impl Block {
    fn with_room_for(spec: &ProcessSpec, environment: &[(&OsStr, &OsStr)]) -> Self {
        let arguments: usize = spec.command.iter().map(|word| word.len() + 1).sum();
        let variables: usize = environment.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        let count = spec.command.len() + environment.len();
        Self { bytes: Vec::with_capacity(arguments + variables + 512), offsets: Vec::with_capacity(count + 16) }
    }

    /// Adds a string made of parts to the list under construction.
    fn push(&mut self, parts: &[&[u8]]) -> io::Result<usize> {
        let offset = self.append(parts)?;
        self.offsets.push(Some(offset));
        Ok(offset)
    }

    fn end_list(&mut self) {
        self.offsets.push(None);
    }

    fn append(&mut self, parts: &[&[u8]]) -> io::Result<usize> {
        let offset = self.bytes.len();
        for part in parts {
            if memchr::memchr(0, part).is_some() {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            self.bytes.extend_from_slice(part);
        }
        self.bytes.push(0);
        Ok(offset)
    }
}
