//! Images as tables and JSON. No store, no clock: what is printed depends on the arguments alone.

use serde_json::json;

use crate::Reference;
use crate::store::Image;

/// Digits of an id that people read, as in `crictl images` and `docker images`.
const SHORT_ID: usize = 12;

/// One printed row: an image under one of its names.
struct Row {
    repository: String,
    tag: String,
    digest: String,
    id: String,
    age: String,
    size: String,
}

pub(super) fn is_named(image: &Image, name: &Reference) -> bool {
    let fits = |tag: &String| {
        tag.parse::<Reference>().is_ok_and(|tag| {
            tag.repository() == name.repository() && name.tag().is_none_or(|wanted| tag.tag() == Some(wanted))
        })
    };
    image.repo_tags.iter().any(fits)
}

pub(super) fn ids(images: &[Image], whole: bool) -> String {
    images.iter().map(|image| format!("{}\n", id(image, whole))).collect()
}

pub(super) fn table(images: &[Image], digests: bool, whole: bool, now_ms: u64) -> String {
    let rows: Vec<Row> = images.iter().flat_map(|image| rows(image, whole, now_ms)).collect();
    let mut header = vec!["REPOSITORY", "TAG"];
    if digests {
        header.push("DIGEST");
    }
    header.extend(["IMAGE ID", "IMPORTED", "SIZE"]);
    let mut lines: Vec<Vec<&str>> = vec![header];
    for row in &rows {
        let mut line = vec![row.repository.as_str(), &row.tag];
        if digests {
            line.push(&row.digest);
        }
        line.extend([row.id.as_str(), &row.age, &row.size]);
        lines.push(line);
    }
    align(&lines)
}

fn rows(image: &Image, whole: bool, now_ms: u64) -> Vec<Row> {
    let digest_of = |repository: &str| {
        let prefix = format!("{repository}@");
        let found = image.repo_digests.iter().find_map(|digest| digest.strip_prefix(&prefix));
        found.unwrap_or("<none>").to_owned()
    };
    let row = |repository: String, tag: String| Row {
        digest: digest_of(&repository),
        repository,
        tag,
        id: id(image, whole),
        age: age(now_ms.saturating_sub(image.imported_at_ms)),
        size: bytes(image.size_bytes),
    };
    if image.repo_tags.is_empty() {
        return vec![row("<none>".to_owned(), "<none>".to_owned())];
    }
    let names = image.repo_tags.iter().filter_map(|tag| tag.parse::<Reference>().ok());
    names.map(|name| row(name.repository(), name.tag().unwrap_or("<none>").to_owned())).collect()
}

fn align(lines: &[Vec<&str>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("   ").trim_end());
        text.push('\n');
    }
    text
}

/// The shape of `crictl images -o json`.
pub(super) fn json(images: &[Image]) -> String {
    let images: Vec<serde_json::Value> = images
        .iter()
        .map(|image| {
            json!({
                "id": image.id,
                "repoTags": image.repo_tags,
                "repoDigests": image.repo_digests,
                "size": image.size_bytes.to_string(),
            })
        })
        .collect();
    format!("{:#}\n", json!({ "images": images }))
}

pub(super) fn inspect(images: &[Image]) -> String {
    let images: Vec<serde_json::Value> = images
        .iter()
        .map(|image| {
            let layer = |layer: &crate::Layer| {
                json!({
                    "digest": layer.digest,
                    "diffId": layer.diff_id,
                    "chainId": layer.chain_id,
                    "size": layer.size_bytes,
                })
            };
            json!({
                "id": image.id,
                "repoTags": image.repo_tags,
                "repoDigests": image.repo_digests,
                "size": image.size_bytes,
                "importedAtMs": image.imported_at_ms,
                "layers": image.layers.iter().map(layer).collect::<Vec<_>>(),
                "config": &*image.config,
            })
        })
        .collect();
    format!("{:#}\n", json!(images))
}

pub(super) fn imported(image: &Image) -> String {
    if image.repo_tags.is_empty() {
        return format!("{}\n", image.id);
    }
    image.repo_tags.iter().map(|tag| format!("{tag} {}\n", image.id)).collect()
}

fn id(image: &Image, whole: bool) -> String {
    if whole { image.id.to_string() } else { image.id.0.hex()[..SHORT_ID].to_owned() }
}

/// Decimal units, as Docker and crictl print them.
pub(super) fn bytes(bytes: u64) -> String {
    let mut amount = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if amount < 1000.0 {
            let digits = if unit == "B" || amount >= 100.0 {
                0
            } else if amount >= 10.0 {
                1
            } else {
                2
            };
            return format!("{amount:.digits$}{unit}");
        }
        amount /= 1000.0;
    }
    format!("{amount:.2}TB")
}

fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::{Digest, ImageId};
    use std::sync::Arc;

    fn image(tags: &[&str]) -> Image {
        let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}});
        Image {
            id: ImageId(Digest::of(b"config")),
            repo_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            repo_digests: vec![format!("docker.io/library/web@{}", Digest::of(b"manifest"))],
            size_bytes: 1_234_567,
            imported_at_ms: 1000,
            config: Arc::new(serde_json::from_value(config).unwrap()),
            layers: Vec::new(),
        }
    }

    #[test]
    fn images_are_printed_one_name_a_line() {
        let images = [image(&["docker.io/library/web:1", "localhost:5000/web:latest"]), image(&[])];
        insta::assert_snapshot!(table(&images, false, false, 3_601_000), @r#"
        REPOSITORY              TAG      IMAGE ID       IMPORTED   SIZE
        docker.io/library/web   1        b79606fb3afe   60m        1.23MB
        localhost:5000/web      latest   b79606fb3afe   60m        1.23MB
        <none>                  <none>   b79606fb3afe   60m        1.23MB
        "#);
        insta::assert_snapshot!(table(&images[..1], true, false, 3_601_000), @r#"
        REPOSITORY              TAG      DIGEST                                                                    IMAGE ID       IMPORTED   SIZE
        docker.io/library/web   1        sha256:05b3abf2579a5eb66403cd78be557fd860633a1fe2103c7642030defe32c657f   b79606fb3afe   60m        1.23MB
        localhost:5000/web      latest   <none>                                                                    b79606fb3afe   60m        1.23MB
        "#);
    }

    #[test]
    fn json_has_the_shape_of_crictl() {
        insta::assert_snapshot!(json(&[image(&["docker.io/library/web:1"])]), @r#"
        {
          "images": [
            {
              "id": "sha256:b79606fb3afea5bd1609ed40b622142f1c98125abcfe89a76a661b0e8e343910",
              "repoDigests": [
                "docker.io/library/web@sha256:05b3abf2579a5eb66403cd78be557fd860633a1fe2103c7642030defe32c657f"
              ],
              "repoTags": [
                "docker.io/library/web:1"
              ],
              "size": "1234567"
            }
          ]
        }
        "#);
    }

    #[test]
    fn sizes_have_three_digits() {
        for (size, want) in [(0, "0B"), (999, "999B"), (1500, "1.50kB"), (123_456, "123kB"), (7_000_000_000, "7.00GB")]
        {
            assert_eq!(bytes(size), want);
        }
    }
}
