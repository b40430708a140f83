/** Releases of the product, oldest first, with the Postgres major that serves a virtual cluster on it. */
export interface Release {
  readonly name: string;
  readonly kind: 'regular' | 'innovation';
  readonly engineMajor: number;
}

export const RELEASES: readonly Release[] = [
  { name: '26.1', kind: 'regular', engineMajor: 17 },
  { name: '26.2', kind: 'regular', engineMajor: 18 },
];

/** The release this program is. */
export const CURRENT_RELEASE = '26.2';
