//! `pintle-bench unpack`: bringing a layer into the store (hash, keep, decompress, hash, unpack, sync) against what GNU
//! tar does with it (decompress, unpack) and tar with a sync.
//!
//! Both write to fresh directories of the same file system, in turns; the layer is read from the page cache.

use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use pintle_rootfs::{Digest, ImportOptions, Source, Store};
use serde_json::json;

/// What to unpack.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Where layers are unpacked; a directory on the disk that counts
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// A tree to pack as the layer; without it one is made up
    #[arg(long)]
    tree: Option<PathBuf>,
    /// Files of the made-up tree
    #[arg(long, default_value_t = 10_000)]
    files: usize,
    /// MiB of the made-up tree
    #[arg(long, default_value_t = 400)]
    mib: usize,
    /// Rounds; the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Measures and prints Markdown.
pub fn run(arguments: &Arguments) -> Result<()> {
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let tar = dir.path().join("layer.tar");
    pack(arguments, &tar)?;
    let bytes = std::fs::metadata(&tar)?.len();
    println!("{:.0} MB uncompressed; seconds, median of {} rounds\n", bytes as f64 / 1e6, arguments.rounds);
    println!("| layer | tar | tar, then sync | pintle image import |");
    println!("|---|---|---|---|");
    for (name, compressed) in [("plain", tar.clone()), ("gzip", gzip(&tar)?), ("zstd", zstd(&tar)?)] {
        let layout = layout(dir.path(), name, &compressed, &tar)?;
        let (mut plain, mut synced, mut ours) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..arguments.rounds {
            plain.push(in_fresh(dir.path(), |to| run_tar(&compressed, to))?);
            synced.push(in_fresh(dir.path(), |to| run_tar(&compressed, to).and_then(|()| sync(to)))?);
            ours.push(in_fresh(dir.path(), |to| import(&layout, to))?);
        }
        let (plain, synced, ours) = (median(plain), median(synced), median(ours));
        println!("| {name} | {plain:.2} | {synced:.2} | {ours:.2} |");
    }
    Ok(())
}

/// Times `work` in an empty directory, whose removal and settling are not counted.
fn in_fresh(dir: &Path, work: impl FnOnce(&Path) -> Result<()>) -> Result<Duration> {
    let fresh = tempfile::tempdir_in(dir)?;
    sync(dir)?;
    let begin = Instant::now();
    work(fresh.path())?;
    let took = begin.elapsed();
    fresh.close()?;
    Ok(took)
}

fn run_tar(archive: &Path, to: &Path) -> Result<()> {
    let status = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(to).status().context("run tar")?;
    ensure!(status.success(), "tar failed");
    Ok(())
}

fn import(layout: &Path, to: &Path) -> Result<()> {
    let store = Store::open(&to.join("store"))?;
    let images = store.import(Source::Path(layout), &ImportOptions { name: Some("bench:1".to_owned()) })?;
    ensure!(images.len() == 1, "one image was expected");
    Ok(())
}

fn sync(dir: &Path) -> Result<()> {
    Ok(rustix::fs::syncfs(std::fs::File::open(dir)?)?)
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, Duration::as_secs_f64)
}

fn pack(arguments: &Arguments, to: &Path) -> Result<()> {
    if let Some(tree) = &arguments.tree {
        let status = Command::new("tar").arg("-cf").arg(to).arg("-C").arg(tree).arg(".").status().context("run tar")?;
        ensure!(status.success(), "tar failed");
        return Ok(());
    }
    let mut archive = tar::Builder::new(BufWriter::new(std::fs::File::create(to)?));
    let each = (arguments.mib << 20) / arguments.files.max(1);
    let mut state = 0x2545_f491_u32;
    for number in 0..arguments.files {
        // Half of every file compresses, half does not, as programs do.
        let mut data = vec![b'a'; each];
        for byte in data.iter_mut().step_by(2) {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            *byte = (state >> 24) as u8;
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, format!("dir-{:03}/file-{number:06}", number / 50), data.as_slice())?;
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

fn gzip(tar: &Path) -> Result<PathBuf> {
    let to = tar.with_extension("tar.gz");
    let mut encoder = flate2::write::GzEncoder::new(std::fs::File::create(&to)?, flate2::Compression::default());
    std::io::copy(&mut std::fs::File::open(tar)?, &mut encoder)?;
    encoder.finish()?;
    Ok(to)
}

fn zstd(tar: &Path) -> Result<PathBuf> {
    let to = tar.with_extension("tar.zst");
    zstd::stream::copy_encode(std::fs::File::open(tar)?, std::fs::File::create(&to)?, 3)?;
    Ok(to)
}

/// An OCI layout of one layer, its blob linked and not copied.
fn layout(dir: &Path, name: &str, layer: &Path, tar: &Path) -> Result<PathBuf> {
    let layout = dir.join(format!("layout-{name}"));
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    let layer_digest = digest_of(layer)?;
    std::fs::hard_link(layer, blobs.join(layer_digest.hex()))?;
    let put = |value: serde_json::Value| -> Result<(Digest, usize)> {
        let bytes = value.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        std::fs::write(blobs.join(digest.hex()), &bytes)?;
        Ok((digest, bytes.len()))
    };
    let architecture = pintle_rootfs_plan::platform::Wanted::linux(std::env::consts::ARCH).architecture;
    let (config, config_bytes) = put(json!({
        "architecture": architecture, "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar)?]},
    }))?;
    let (manifest, manifest_bytes) = put(json!({
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_bytes},
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": layer_digest,
            "size": std::fs::metadata(layer)?.len(),
        }],
    }))?;
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let top = json!({"mediaType": media_type, "digest": manifest, "size": manifest_bytes});
    std::fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": [top]}).to_string())?;
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(layout)
}

fn digest_of(path: &Path) -> Result<Digest> {
    let output = Command::new("sha256sum").arg(path).output().context("run sha256sum")?;
    let mut hex = String::new();
    output.stdout.take(64).read_to_string(&mut hex)?;
    Ok(Digest::from_hex(&hex)?)
}
