//! Reading a snapshot from a file. Envoy configures on its main thread, which reads files too: requests are on others.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;

use edgefold_snapshot::{Fingerprint, MAX_SNAPSHOT_BYTES, SnapshotFile};
use rustix::fs::OFlags;

/// The snapshot that a configuration names. That it is one is still to be checked.
///
/// # Errors
/// A text for Envoy's log, if it cannot be read or is another one.
pub fn read(file: &SnapshotFile) -> Result<Vec<u8>, String> {
    let SnapshotFile { path, fingerprint } = file;
    let failed = |error: io::Error| format!("the snapshot file {path}: {error}");
    let stated = fingerprint.bytes();
    let bytes = usize::try_from(stated).ok().filter(|bytes| *bytes <= MAX_SNAPSHOT_BYTES);
    let bytes = bytes.ok_or_else(|| format!("the snapshot file {path}: {stated} bytes are more than 256 MiB"))?;
    // Whatever it is, this does not wait for it.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let open = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let found = open.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(format!("the snapshot file {path}: it is no file"));
    }
    let other = || {
        format!(
            "the snapshot file {path}: it is not the snapshot {fingerprint} with {stated} bytes that the configuration names"
        )
    };
    if found.len() != stated {
        return Err(other());
    }
    let mut snapshot = Vec::new();
    snapshot.try_reserve_exact(bytes).map_err(|_| format!("the snapshot file {path}: there is no memory for it"))?;
    open.take(stated).read_to_end(&mut snapshot).map_err(failed)?;
    if Fingerprint::of(&snapshot) == Some(*fingerprint) { Ok(snapshot) } else { Err(other()) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use edgefold_snapshot::{Generation, NewSnapshot, Settings};

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    fn snapshot(next_offset: u64) -> Vec<u8> {
        let generation = Generation { epoch: 0, next_offset, expiry: None };
        let new = NewSnapshot { name: "edgefold", generation, as_of: 0, settings: &Settings::default(), cut_at: 0 };
        new.encode_default_list(["10.0.0.0/24".parse().unwrap()]).unwrap()
    }

    #[test]
    fn only_the_snapshot_that_is_named_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("list.snapshot").to_str().unwrap().to_owned();
        let (snapshot, other) = (snapshot(1), snapshot(2));
        let fingerprint = Fingerprint::of(&snapshot).unwrap();
        let file = SnapshotFile { path: path.clone(), fingerprint };
        let error = || read(&file).unwrap_err();
        assert!(error().contains("No such file") && error().contains(&path), "{}", error());
        fs::write(&path, &snapshot).unwrap();
        assert_eq!(read(&file), Ok(snapshot.clone()));
        let longer = [&snapshot[..], b"?"].concat();
        for wrong in [&other[..], b"", &snapshot[1..], &longer] {
            fs::write(&path, wrong).unwrap();
            assert!(error().contains(&format!("not the snapshot {fingerprint} with ")), "{}", error());
        }
        let pipe = directory.path().join("pipe");
        mkfifoat(CWD, &pipe, Mode::RUSR).unwrap();
        for path in [directory.path().to_str().unwrap(), "/dev/zero", pipe.to_str().unwrap()] {
            let error = read(&SnapshotFile { path: path.to_owned(), fingerprint }).unwrap_err();
            assert!(error.ends_with("it is no file"), "{error}");
        }
        let endless = Fingerprint::from_text(&fingerprint.to_string(), u64::MAX).unwrap();
        let error = read(&SnapshotFile { path, fingerprint: endless }).unwrap_err();
        assert!(error.contains("more than 256 MiB"), "{error}");
    }
}
