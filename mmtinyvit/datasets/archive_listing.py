"""Listing the images of a class, in a folder or in a zip file."""
import os
import posixpath
import struct
import zipfile
from pathlib import Path

from ..errors import UserError
from .archive_members import ArchiveMember

__all__ = ['IMAGE_SUFFIXES', 'list_folder', 'list_zip']

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.ppm', '.pgm', '.tif', '.tiff')

_LOCAL_HEADER = struct.Struct('<4s22xHH')  # signature; lengths of the name and of the extra field at bytes 26 and 28
_ENCRYPTED = 0x1


def list_folder(data_root: str, name: str) -> tuple[list[str], list[ArchiveMember]]:
    """The sorted keys of the images under the folder of the class ``name``, and no members."""
    root = Path(data_root, name)
    files = (Path(folder, file) for folder, _, files in os.walk(root, followlinks=True) for file in files)
    return sorted(f'{name}/{file.relative_to(root).as_posix()}' for file in files if _is_image(file.name)), []


def list_zip(data_root: str, name: str) -> tuple[list[str], list[ArchiveMember]]:
    """The sorted keys and the members of the images in the zip file of the class ``name``.

    Raises:
        UserError: The file is no readable zip file, a member is encrypted or compressed in another way, or two images
            would have the same key.
    """
    archive, members = os.path.join(data_root, f'{name}.zip'), {}
    try:
        with zipfile.ZipFile(archive) as file:
            archive_bytes = os.fstat(file.fp.fileno()).st_size
            for info in file.infolist():
                if info.is_dir():
                    continue
                if info.flag_bits & _ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise UserError(f'{info.filename} in {archive} is encrypted or compressed by method '
                                    f'{info.compress_type}: write the archive again with plain `zip`.')
                # The local header's extra field may differ in length from the central directory's.
                header = os.pread(file.fp.fileno(), _LOCAL_HEADER.size, info.header_offset)
                signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
                if signature != zipfile.stringFileHeader:
                    raise zipfile.BadZipFile(f'no member at byte {info.header_offset}')
                if not _is_image(info.filename):
                    continue
                # Archives differ in the folder they put their members under; the class is the archive's own name.
                image = posixpath.basename(info.filename)
                if image in members:
                    raise UserError(f'{archive} holds {image} twice, in two of its folders: keep one of them.')
                start = info.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
                members[image] = ArchiveMember(archive, archive_bytes, start, info.compress_size, info.compress_type,
                                           info.CRC)
    except (OSError, zipfile.BadZipFile, struct.error) as error:
        raise UserError(f'{archive} cannot be read as a zip file ({error}): fetch it again.') from error
    return [f'{name}/{image}' for image in sorted(members)], [members[image] for image in sorted(members)]


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)
