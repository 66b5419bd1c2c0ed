//! The one program in every image: a static x86-64 ELF that prints a line and exits, so that a container can run without
//! any file of the host and the image stays reproducible.

/// What `/bin/hello` prints.
pub const HELLO_OUTPUT: &str = "hello from a parapull image\n";

const BASE_ADDRESS: u64 = 0x40_0000;
const ELF_HEADER_BYTES: u64 = 64;
const PROGRAM_HEADER_BYTES: u64 = 56;
const HEADERS_BYTES: u64 = ELF_HEADER_BYTES + PROGRAM_HEADER_BYTES;
const CODE_BYTES: u64 = 34;

/// The program's bytes: headers, 34 bytes of code, the text.
#[must_use]
pub fn hello_elf() -> Vec<u8> {
    let text_address = u32::try_from(BASE_ADDRESS + HEADERS_BYTES + CODE_BYTES).unwrap_or(u32::MAX);
    let text_bytes = u32::try_from(HELLO_OUTPUT.len()).unwrap_or(u32::MAX);
    let file_bytes = HEADERS_BYTES + CODE_BYTES + u64::from(text_bytes);
    let mut elf = Vec::new();
    append_headers(&mut elf, file_bytes);
    append_code(&mut elf, text_address, text_bytes);
    elf.extend_from_slice(HELLO_OUTPUT.as_bytes());
    elf
}

fn append_headers(elf: &mut Vec<u8>, file_bytes: u64) {
    // Identification: 64 bits, little-endian, version 1, System V.
    elf.extend_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    elf.extend_from_slice(&2_u16.to_le_bytes()); // executable
    elf.extend_from_slice(&62_u16.to_le_bytes()); // x86-64
    elf.extend_from_slice(&1_u32.to_le_bytes());
    elf.extend_from_slice(&(BASE_ADDRESS + HEADERS_BYTES).to_le_bytes()); // entry
    elf.extend_from_slice(&ELF_HEADER_BYTES.to_le_bytes()); // program headers
    elf.extend_from_slice(&0_u64.to_le_bytes()); // no sections
    elf.extend_from_slice(&0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    // One segment: the whole file, readable and executable.
    elf.extend_from_slice(&1_u32.to_le_bytes());
    elf.extend_from_slice(&5_u32.to_le_bytes());
    for word in [
        0,
        BASE_ADDRESS,
        BASE_ADDRESS,
        file_bytes,
        file_bytes,
        0x1000,
    ] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
}

fn append_code(elf: &mut Vec<u8>, text_address: u32, text_bytes: u32) {
    elf.extend_from_slice(&[0xb8, 1, 0, 0, 0]); // mov eax, 1 (write)
    elf.extend_from_slice(&[0xbf, 1, 0, 0, 0]); // mov edi, 1 (standard output)
    elf.push(0xbe); // mov esi, text
    elf.extend_from_slice(&text_address.to_le_bytes());
    elf.push(0xba); // mov edx, length
    elf.extend_from_slice(&text_bytes.to_le_bytes());
    elf.extend_from_slice(&[0x0f, 0x05]); // syscall
    elf.extend_from_slice(&[0xb8, 60, 0, 0, 0]); // mov eax, 60 (exit)
    elf.extend_from_slice(&[0xbf, 0, 0, 0, 0]); // mov edi, 0
    elf.extend_from_slice(&[0x0f, 0x05]); // syscall
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_one_tar_block() {
        let elf = hello_elf();
        let headers_and_code = usize::try_from(HEADERS_BYTES + CODE_BYTES).unwrap();
        assert_eq!(elf.len(), headers_and_code + HELLO_OUTPUT.len());
        assert!(
            elf.len() <= 512,
            "the shape of a bottom layer counts one block for it"
        );
    }

    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[test]
    fn runs_and_prints() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hello");
        std::fs::write(&path, hello_elf()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let output = std::process::Command::new(&path).output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), HELLO_OUTPUT);
    }
}
