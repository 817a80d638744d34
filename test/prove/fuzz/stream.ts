/** The data of each event, by the rules of SSE; what is no JSON is left out, and so is `[DONE]`. */
export function dataOf<T = unknown>(text: string, read: (data: string) => T | undefined = json as never): T[] {
  return text
    .replace(/^\uFEFF/, '')
    .split(/\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n/)
    .flatMap((event) => {
      const lines = event.split(/\r\n|\n|\r/).filter((line) => line.startsWith('data:'));
      if (lines.length === 0) return [];
      const found = read(lines.map((line) => line.slice(line[5] === ' ' ? 6 : 5)).join('\n'));
      return found === undefined ? [] : [found];
    });
}

function json(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch {
    return undefined;
  }
}
