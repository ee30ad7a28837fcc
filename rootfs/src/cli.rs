//! The words of `pintle image`: what a person types, and what is printed. What is done is the store's.

mod output;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use pintle_rootfs_plan::build::{Add, BuildSpec, Symlink};
use pintle_rootfs_plan::gc::{Nameless, Policy};

use crate::build::{BuildOptions, pairs, read_spec};
use crate::contents::Source;
use crate::error::{At, Error, Result};
use crate::export::ExportFormat;
use crate::import::ImportOptions;
use crate::store::{Image, Removed, Store};

/// Images of this node.
#[derive(Debug, Clone, Subcommand)]
pub enum ImageCommand {
    /// List images
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Bring images from an OCI layout, an OCI archive or a `docker save` archive (- reads standard input)
    #[command(visible_alias = "load")]
    Import(ImportArgs),
    /// Write images to an archive (- writes standard output)
    #[command(visible_alias = "save")]
    Export(ExportArgs),
    /// Remove names; the last name takes the image with it
    Rm(RemoveArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Print everything known about images as JSON
    Inspect(InspectArgs),
    /// Build an image from files, without running anything
    Build(Box<BuildArgs>),
    /// Remove images nobody uses, and what no image needs
    Prune(PruneArgs),
}

/// How output looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputFormat {
    /// A table for people.
    #[default]
    Table,
    /// JSON for programs.
    Json,
}

/// `pintle image ls`
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// Only images of this repository or with this name
    pub name: Option<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: OutputFormat,
    /// Print image ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Print manifests' digests too
    #[arg(long)]
    pub digests: bool,
    /// Print whole ids
    #[arg(long)]
    pub no_trunc: bool,
}

/// `pintle image import`
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// A directory, an archive, or - for standard input
    pub source: PathBuf,
    /// The image's name (with a tag), or the repository of all its tags (without one)
    #[arg(short = 't', long, visible_alias = "tag")]
    pub name: Option<String>,
}

/// `pintle image export`
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Names or ids
    #[arg(required = true)]
    pub images: Vec<String>,
    /// Where to: a file, or - for standard output
    #[arg(short, long, default_value = "-")]
    pub output: PathBuf,
    /// The kind of archive
    #[arg(long, value_enum, default_value_t)]
    pub format: ArchiveFormat,
}

/// Kinds of archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ArchiveFormat {
    /// An OCI archive, which newer Docker loads too
    #[default]
    Oci,
    /// Docker's own, layers uncompressed
    Docker,
}

/// `pintle image rm`
#[derive(Debug, Clone, Args)]
pub struct RemoveArgs {
    /// Names or ids
    #[arg(required = true)]
    pub images: Vec<String>,
}

/// `pintle image tag`
#[derive(Debug, Clone, Args)]
pub struct TagArgs {
    /// A name or id
    pub image: String,
    /// The further name
    pub name: String,
}

/// `pintle image inspect`
#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// Names or ids
    #[arg(required = true)]
    pub images: Vec<String>,
}

/// `pintle image prune`
#[derive(Debug, Clone, Args)]
pub struct PruneArgs {
    /// Every image without a container, not only those without a name
    #[arg(short, long)]
    pub all: bool,
}

/// `pintle image build`
#[derive(Debug, Clone, Args)]
pub struct BuildArgs {
    /// The image's name
    #[arg(short = 't', long, visible_alias = "tag")]
    pub name: String,
    /// Read the specification from a YAML file; flags are added to it
    #[arg(short, long)]
    pub file: Option<PathBuf>,
    /// The directory sources are relative to [default: the file's, or the current one]
    #[arg(short = 'C', long)]
    pub context: Option<PathBuf>,
    /// An image to build upon, or `scratch`
    #[arg(long)]
    pub base: Option<String>,
    /// Copy a file or tree: SOURCE:DESTINATION[:MODE]
    #[arg(long, value_parser = parse_add)]
    pub add: Vec<Add>,
    /// Make a symbolic link: TARGET:DESTINATION
    #[arg(long, value_parser = parse_symlink)]
    pub symlink: Vec<Symlink>,
    /// The command that always runs; repeat for its arguments
    #[arg(long, allow_hyphen_values = true)]
    pub entrypoint: Vec<String>,
    /// The default arguments; repeat for each
    #[arg(long, allow_hyphen_values = true)]
    pub cmd: Vec<String>,
    /// NAME=VALUE
    #[arg(short, long)]
    pub env: Vec<String>,
    /// Where processes start
    #[arg(short, long)]
    pub workdir: Option<String>,
    /// USER[:GROUP]
    #[arg(short, long)]
    pub user: Option<String>,
    /// NAME=VALUE
    #[arg(short, long)]
    pub label: Vec<String>,
    /// A port it listens on: NUMBER[/PROTOCOL]
    #[arg(short, long)]
    pub port: Vec<String>,
    /// The time of everything in the new layer, seconds since 1970
    #[arg(long, env = "SOURCE_DATE_EPOCH", default_value_t = 0)]
    pub epoch: u64,
    /// Print the image's id only
    #[arg(short, long)]
    pub quiet: bool,
}

/// Runs a command, printing data to standard output and remarks to standard error.
pub fn run(command: ImageCommand, store: &Store) -> Result<()> {
    run_to(command, store, &mut io::stdout().lock())
}

/// As [`run`], printing data to `out`.
pub fn run_to(command: ImageCommand, store: &Store, out: &mut dyn Write) -> Result<()> {
    match command {
        ImageCommand::Ls(args) => list(&args, store, out),
        ImageCommand::Import(args) => import(&args, store, out),
        ImageCommand::Export(args) => export(&args, store, out),
        ImageCommand::Rm(args) => remove(&args, store, out),
        ImageCommand::Tag(args) => store.tag(&args.image, &args.name),
        ImageCommand::Inspect(args) => inspect(&args, store, out),
        ImageCommand::Build(args) => build(*args, store, out),
        ImageCommand::Prune(args) => prune(&args, store, out),
    }
}

fn list(args: &ListArgs, store: &Store, out: &mut dyn Write) -> Result<()> {
    let mut images = store.list()?;
    if let Some(name) = &args.name {
        let name: crate::Reference = name.parse()?;
        images.retain(|image| output::is_named(image, &name));
    }
    let text = match (args.quiet, args.output) {
        (true, _) => output::ids(&images, args.no_trunc),
        (false, OutputFormat::Json) => output::json(&images),
        (false, OutputFormat::Table) => output::table(&images, args.digests, args.no_trunc, crate::gc::now_ms()),
    };
    print(out, &text)
}

fn import(args: &ImportArgs, store: &Store, out: &mut dyn Write) -> Result<()> {
    let options = ImportOptions { name: args.name.clone() };
    let images = if args.source == Path::new("-") {
        store.import(Source::Stream(Box::new(io::stdin())), &options)?
    } else {
        store.import(Source::Path(&args.source), &options)?
    };
    let lines: Vec<String> = images.iter().map(output::imported).collect();
    print(out, &lines.concat())
}

fn export(args: &ExportArgs, store: &Store, out: &mut dyn Write) -> Result<()> {
    let format = match args.format {
        ArchiveFormat::Oci => ExportFormat::Oci,
        ArchiveFormat::Docker => ExportFormat::Docker,
    };
    if args.output == Path::new("-") {
        return store.export(&args.images, out, format);
    }
    // Written beside its place and renamed, so that a failed export leaves no half archive under the name asked for.
    let dir = args.output.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir).at("create a file in", dir)?;
    let mut buffered = io::BufWriter::with_capacity(256 << 10, file.as_file_mut());
    store.export(&args.images, &mut buffered, format)?;
    buffered.flush().at("write", &args.output)?;
    drop(buffered);
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(readable).at("change the mode of", &args.output)?;
    file.persist(&args.output).map(drop).map_err(|error| error.error).at("create", &args.output)
}

fn remove(args: &RemoveArgs, store: &Store, out: &mut dyn Write) -> Result<()> {
    for word in &args.images {
        let line = match store.remove(word)? {
            Removed::Untagged(name) => format!("Untagged: {name}\n"),
            Removed::Image(id) => format!("Deleted: {id}\n"),
        };
        print(out, &line)?;
    }
    Ok(())
}

fn inspect(args: &InspectArgs, store: &Store, out: &mut dyn Write) -> Result<()> {
    let images: Vec<Image> = args.images.iter().map(|word| store.find(word)).collect::<Result<_>>()?;
    print(out, &output::inspect(&images))
}

fn prune(args: &PruneArgs, store: &Store, out: &mut dyn Write) -> Result<()> {
    let free_bytes = if args.all { u64::MAX } else { 0 };
    let policy = Policy { free_bytes, nameless: Nameless::Remove, ..Policy::default() };
    let plan = store.gc(&policy)?;
    for id in &plan.images {
        print(out, &format!("Deleted: {id}\n"))?;
    }
    print(out, &format!("Freed: {}\n", output::bytes(plan.freed_bytes)))
}

fn build(args: BuildArgs, store: &Store, out: &mut dyn Write) -> Result<()> {
    let mut spec = args.file.as_deref().map_or_else(|| Ok(BuildSpec::default()), read_spec)?;
    let beside_file = args.file.as_deref().and_then(Path::parent).map(Path::to_owned);
    let context = args.context.clone().or(beside_file).unwrap_or_default();
    let (name, epoch_seconds, quiet) = (args.name.clone(), args.epoch, args.quiet);
    add_flags(&mut spec, args);
    let image = store.build(&spec, &BuildOptions { name, context, epoch_seconds })?;
    print(out, &if quiet { format!("{}\n", image.id) } else { output::imported(&image) })
}

fn add_flags(spec: &mut BuildSpec, args: BuildArgs) {
    spec.base = args.base.or(spec.base.take());
    spec.add.extend(args.add);
    spec.symlinks.extend(args.symlink);
    spec.env.extend(pairs(&args.env));
    spec.labels.extend(pairs(&args.label));
    spec.ports.extend(args.port);
    spec.workdir = args.workdir.or(spec.workdir.take());
    spec.user = args.user.or(spec.user.take());
    if !args.entrypoint.is_empty() {
        spec.entrypoint = Some(args.entrypoint);
    }
    if !args.cmd.is_empty() {
        spec.cmd = Some(args.cmd);
    }
}

fn parse_add(text: &str) -> Result<Add, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, mode) = match parts.as_slice() {
        [source, destination] => (*source, *destination, None),
        [source, destination, mode] => (*source, *destination, Some((*mode).to_owned())),
        _ => return Err("expected SOURCE:DESTINATION[:MODE]".to_owned()),
    };
    Ok(Add { source: source.into(), destination: destination.to_owned(), mode, owner: None })
}

fn parse_symlink(text: &str) -> Result<Symlink, String> {
    match text.split_once(':') {
        Some((target, destination)) if !target.is_empty() && !destination.is_empty() => {
            Ok(Symlink { target: target.to_owned(), destinations: vec![destination.to_owned()] })
        }
        _ => Err("expected TARGET:DESTINATION".to_owned()),
    }
}

fn print(out: &mut dyn Write, text: &str) -> Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `pintle image ls | head -1` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|source| Error::Io { action: "write to", path: "standard output".into(), source }),
    }
}
