use imagesize::ImageType;
use serde_json::json;

use super::sealed::Prepare;
use super::{MediaError, PreparedFile, PreparedMedia};

/// An image.
///
/// ```
/// use logcore_wandb::Image;
///
/// // Two pixels side by side, red and blue.
/// let image = Image::rgb(2, 1, [255, 0, 0, 0, 0, 255]).caption("a flag");
/// assert_ne!(image, Image::rgb(1, 2, [255, 0, 0, 0, 0, 255]).caption("a flag"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    content: ImageContent,
    caption: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum ImageContent {
    Encoded(Vec<u8>),
    Pixels {
        width: u32,
        height: u32,
        channels: Channels,
        bytes: Vec<u8>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Channels {
    Grey = 1,
    Rgb = 3,
    Rgba = 4,
}

impl Image {
    /// An image that is PNG or JPEG already.
    pub fn encoded(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            content: ImageContent::Encoded(bytes.into()),
            caption: None,
        }
    }

    /// An image from pixels of three bytes, red, green and blue, row by row from the top.
    pub fn rgb(width: u32, height: u32, pixels: impl Into<Vec<u8>>) -> Self {
        Self::pixels(width, height, Channels::Rgb, pixels.into())
    }

    /// An image from pixels of four bytes, the last of which is 255 where it is opaque.
    pub fn rgba(width: u32, height: u32, pixels: impl Into<Vec<u8>>) -> Self {
        Self::pixels(width, height, Channels::Rgba, pixels.into())
    }

    /// An image from pixels of one byte, from black to white.
    pub fn grey(width: u32, height: u32, pixels: impl Into<Vec<u8>>) -> Self {
        Self::pixels(width, height, Channels::Grey, pixels.into())
    }

    /// Puts a text under it.
    pub fn caption(mut self, text: impl Into<String>) -> Self {
        self.caption = Some(text.into());
        self
    }

    fn pixels(width: u32, height: u32, channels: Channels, bytes: Vec<u8>) -> Self {
        Self {
            content: ImageContent::Pixels {
                width,
                height,
                channels,
                bytes,
            },
            caption: None,
        }
    }
}

impl Prepare for Image {
    fn prepare(self) -> Result<PreparedMedia, MediaError> {
        let (format, width, height, bytes) = match self.content {
            ImageContent::Encoded(bytes) => {
                let format = match imagesize::image_type(&bytes) {
                    Ok(ImageType::Png) => "png",
                    Ok(ImageType::Jpeg) => "jpg",
                    _ => {
                        return Err(malformed(format!(
                            "{} bytes that are neither PNG nor JPEG",
                            bytes.len()
                        )));
                    }
                };
                let size = imagesize::blob_size(&bytes)
                    .map_err(|error| malformed(format!("a {format} image without a size ({error})")))?;
                (format, size.width, size.height, bytes)
            }
            ImageContent::Pixels {
                width,
                height,
                channels,
                bytes,
            } => {
                let wanted = u128::from(width) * u128::from(height) * channels as u128;
                if wanted != bytes.len() as u128 || wanted == 0 {
                    let what = format!(
                        "{} bytes for {width} x {height} pixels of {} bytes; they should be {wanted}, and more than none",
                        bytes.len(),
                        channels as u8
                    );
                    return Err(malformed(what));
                }
                (
                    "png",
                    width as usize,
                    height as usize,
                    png(width, height, channels, &bytes)?,
                )
            }
        };
        let mut value = json!({"_type": "image-file", "format": format, "width": width, "height": height});
        if let Some(caption) = self.caption {
            value["caption"] = caption.into();
        }
        Ok(PreparedMedia {
            value,
            file: Some(PreparedFile {
                folder: "images",
                ending: if format == "png" { ".png" } else { ".jpg" },
                bytes,
            }),
            artifact: None,
            remark: None,
        })
    }
}

fn png(width: u32, height: u32, channels: Channels, pixels: &[u8]) -> Result<Vec<u8>, MediaError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_color(match channels {
        Channels::Grey => png::ColorType::Grayscale,
        Channels::Rgb => png::ColorType::Rgb,
        Channels::Rgba => png::ColorType::Rgba,
    });
    let failed = |error: png::EncodingError| malformed(format!("pixels that do not become PNG ({error})"));
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(file)
}

fn malformed(what: String) -> MediaError {
    MediaError::Malformed(format!("an image of {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_become_a_png_of_their_size() {
        let prepared = Image::rgb(3, 2, vec![7; 18]).caption("c").prepare().unwrap();
        assert_eq!(prepared.value["width"], 3);
        assert_eq!(prepared.value["caption"], "c");
        let bytes = prepared.file.unwrap().bytes;
        let again = Image::encoded(bytes).prepare().unwrap();
        assert_eq!(
            (&again.value["format"], &again.value["height"]),
            (&json!("png"), &json!(2))
        );
    }

    #[test]
    fn what_is_no_image_is_refused() {
        for image in [
            Image::encoded(b"GIF89a".to_vec()),
            Image::encoded([0xff, 0xd8, 0xff].to_vec()),
            Image::encoded([]),
            Image::rgb(2, 2, vec![0; 11]),
            Image::rgb(0, 0, []),
            Image::rgba(u32::MAX, u32::MAX, [1]),
        ] {
            assert!(image.prepare().is_err());
        }
    }
}
