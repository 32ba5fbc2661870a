//! The files of a certctl that is started: copies that its user can read, in a folder that only that user may enter.

use std::fs::{self, DirBuilder, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::ocsp_responder::OcspResponder;
use super::{BinaryChoice, FlagNames, LEASE};
use crate::error::{Context, Error, Result};
use crate::provision::child::RunAs;
use crate::provision::pki::Identity;
use crate::system::hex;

/// The folder of migrations in certctl's source tree and in its image.
const MIGRATIONS: &str = "migrations";
const DEMO_SEED: &str = "seed_demo.sql";
/// The folders that are searched for migrations: the binary's own, and those above it, as `bin` in a source tree.
const SEARCHED: usize = 4;

/// The files that are copied.
pub(super) struct Source {
    program: PathBuf,
    migrations: PathBuf,
}

/// The files of a server.
pub(super) struct BinaryFiles {
    pub program: PathBuf,
    /// The SHA-256 of the program, in hexadecimal digits.
    pub sha256: String,
    pub migrations: PathBuf,
    /// The SHA-256 of what `sha256sum *.sql` prints in their folder.
    pub migrations_sha256: String,
    pub chain: PathBuf,
    pub key: PathBuf,
    pub issuer: PathBuf,
    pub issuer_key: PathBuf,
    pub responder_key: PathBuf,
    /// The working folder, which is empty.
    pub work: PathBuf,
}

/// Finds the binary and its migrations.
///
/// # Errors
/// If one of them is not there (kind `Usage`).
pub(super) fn find(choice: &BinaryChoice) -> Result<Source> {
    let FlagNames { program: flag, migrations: migrations_flag, .. } = choice.flags;
    let shown = choice.program.display();
    let refused = |why: &str| Error::usage(format!("{flag} {shown}: {why}"));
    let hint = "give the path of a certctl-server binary";
    let program = choice.program.canonicalize().map_err(|error| refused(&error.to_string()).with_hint(hint))?;
    let meta = program.metadata().ok().filter(|meta| meta.is_file() && is_of_this_machine(&program));
    let Some(meta) = meta else {
        return Err(refused("it is not a program for this machine").with_hint(hint));
    };
    // Artifacts of CI lose that.
    if meta.permissions().mode() & 0o111 == 0 {
        return Err(refused("it may not be executed").with_hint(format!("run chmod +x {shown}")));
    }
    let has_seed = |folder: &Path| folder.join(DEMO_SEED).is_file();
    if let Some(folder) = &choice.migrations {
        if has_seed(folder) {
            return Ok(Source { program, migrations: folder.clone() });
        }
        return Err(Error::usage(format!("{migrations_flag} {}: it has no {DEMO_SEED}", folder.display()))
            .with_hint("give the folder `migrations` of certctl's source, of the binary's commit"));
    }
    let around = program.ancestors().skip(1).take(SEARCHED).map(|folder| folder.join(MIGRATIONS));
    match around.clone().find(|folder| has_seed(folder)) {
        Some(migrations) => Ok(Source { program, migrations }),
        None => {
            Err(refused(&format!("no {MIGRATIONS}/{DEMO_SEED} in its folder, nor in the {} above it", SEARCHED - 1))
                .with_hint(format!(
                    "give the folder `migrations` of certctl's source, of the binary's commit: {migrations_flag} FOLDER"
                )))
        }
    }
}

/// Reports whether a file is a script, or a program for the processor that this program is for. Otherwise a shell would
/// be given it (execvp(3)).
fn is_of_this_machine(program: &Path) -> bool {
    let head = |path: &Path| {
        let mut head = Vec::new();
        File::open(path).and_then(|file| file.take(20).read_to_end(&mut head)).ok().map(|_| head)
    };
    let (Some(theirs), Some(ours)) = (head(program), head(Path::new("/proc/self/exe"))) else { return false };
    // ELF's magic, class and byte order; and the processor.
    theirs.starts_with(b"#!") || (theirs.get(..6), theirs.get(18..)) == (ours.get(..6), ours.get(18..))
}

impl BinaryFiles {
    /// Copies the files into `folder`, which is ours, and gives it to `user`; those of the issuer only if there is a
    /// `responder` of its.
    pub fn make(
        folder: &Path,
        user: Option<RunAs>,
        source: &Source,
        identity: &Identity,
        responder: Option<&OcspResponder>,
    ) -> Result<Self> {
        let folders = ["bin", MIGRATIONS, "tls", LEASE.work].map(|name| folder.join(name));
        for path in &folders {
            let what = || format!("making the folder {}", path.display());
            DirBuilder::new().mode(0o700).create(path).context(what)?;
        }
        let [bin, migrations, tls, work] = &folders;
        let program = bin.join(source.program.file_name().unwrap_or_default());
        let sha256 = copy(&source.program, &program, 0o500, user)?;
        let (chain, key) = (tls.join("server.pem"), tls.join("server.key"));
        put(&chain, &identity.chain_pem, user)?;
        put(&key, &identity.key_pem, user)?;
        let [issuer, issuer_key, responder_key] =
            ["issuer.pem", "issuer.key", "responder.key"].map(|name| tls.join(name));
        if let Some(OcspResponder { authority, responder }) = responder {
            put(&issuer, &authority.pem(), user)?;
            put(&issuer_key, &authority.key_pem(), user)?;
            put(&responder_key, &responder.key_pem, user)?;
        }
        let mut listed = Sha256::new();
        for path in scripts(&source.migrations)? {
            let name = path.file_name().unwrap_or_default();
            let sha256 = copy(&path, &migrations.join(name), 0o400, user)?;
            listed.update(format!("{sha256}  {}\n", name.display()));
        }
        let (migrations, migrations_sha256, work) = (migrations.clone(), hex(&listed.finalize()), work.clone());
        // Last: from then on a path may lead anywhere.
        if let Some(user) = user {
            folders.iter().map(PathBuf::as_path).chain([folder]).try_for_each(|path| user.take(path))?;
        }
        Ok(Self { program, sha256, migrations, migrations_sha256, chain, key, issuer, issuer_key, responder_key, work })
    }

    /// Reads the demo seed; returns its path too.
    pub fn demo_seed(&self) -> Result<(String, PathBuf)> {
        let path = self.migrations.join(DEMO_SEED);
        let sql = fs::read_to_string(&path).context(|| format!("reading {}", path.display()))?;
        Ok((sql, path))
    }
}

/// Returns the paths of the migrations in a folder, sorted.
fn scripts(folder: &Path) -> Result<Vec<PathBuf>> {
    let reading = || format!("reading {}", folder.display());
    let mut scripts = Vec::new();
    for entry in fs::read_dir(folder).context(reading)? {
        let path = entry.context(reading)?.path();
        if path.extension().is_some_and(|ending| ending == "sql") && path.is_file() {
            scripts.push(path);
        }
    }
    scripts.sort();
    Ok(scripts)
}

fn put(path: &Path, content: &str, user: Option<RunAs>) -> Result<()> {
    let what = || format!("writing {}", path.display());
    RunAs::create(user, path, 0o400)?.write_all(content.as_bytes()).context(what)
}

/// Copies a file, and returns its SHA-256.
fn copy(from: &Path, to: &Path, mode: u32, user: Option<RunAs>) -> Result<String> {
    let what = || format!("copying {} to {}", from.display(), to.display());
    let (mut source, mut copy) = (File::open(from).context(what)?, RunAs::create(user, to, mode)?);
    let (mut hash, mut part) = (Sha256::new(), vec![0; 64 * 1024]);
    loop {
        let length = source.read(&mut part).context(what)?;
        if length == 0 {
            break;
        }
        hash.update(&part[..length]);
        copy.write_all(&part[..length]).context(what)?;
    }
    Ok(hex(&hash.finalize()))
}
