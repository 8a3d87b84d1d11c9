/** Saves a text as a file on the reader's machine. */
export function download(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The browser has begun to save by the time anything else runs.
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
