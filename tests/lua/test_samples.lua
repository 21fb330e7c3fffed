--- What recorders write: headers that lie, pieces of any size, either byte order.

local h = require('helper')
local samples = require('gemma.samples')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

local be, le = h.be, h.le

local function fmt(tag, channels, rate, bits, more)
  local body = le(tag, 2) .. le(channels, 2) .. le(rate, 4) .. le(rate * channels * bits / 8, 4)
    .. le(channels * bits / 8, 2) .. le(bits, 2) .. (more or '')
  return 'fmt ' .. le(#body, 4) .. body
end

local function riff(chunks)
  return 'RIFF' .. le(0, 4) .. 'WAVE' .. chunks
end

--- Fed in pieces of n bytes.
local function feed(bytes, n)
  local s, out = samples.new(), {}
  for i = 1, #bytes, n do
    out[#out + 1] = s:feed(bytes:sub(i, i + n - 1))
  end
  return table.concat(out), s
end

local PCM = ''
for i = 1, 400 do
  PCM = PCM .. le(i * 81 % 65536, 2)
end

test('bare samples, WAV and AU give the same samples, in pieces of any size', function()
  local swapped = PCM:gsub('(.)(.)', '%2%1')
  local streams = {
    bare = PCM,
    wav = samples.wav(PCM, 16000, 1),
    ['wav of a stream'] = riff(fmt(1, 1, 16000, 16) .. 'data\255\255\255\255') .. PCM,
    ['wav of length 0'] = riff(fmt(1, 1, 16000, 16) .. 'data\0\0\0\0') .. PCM,
    ['wav with other chunks'] = riff('JUNK' .. le(7, 4) .. 'xxxxxxx\0' .. fmt(1, 1, 16000, 16)
      .. 'LIST' .. le(4, 4) .. 'INFO' .. 'data' .. le(#PCM, 4)) .. PCM .. 'LIST' .. le(4, 4) .. 'INFO',
    ['extensible wav'] = riff(fmt(0xFFFE, 1, 16000, 16, le(22, 2) .. le(16, 2) .. le(4, 4) .. le(1, 2)
      .. ('x'):rep(14)) .. 'data' .. le(#PCM, 4)) .. PCM,
    au = '.snd' .. be(28, 4) .. be(0xFFFFFFFF, 4) .. be(3, 4) .. be(16000, 4) .. be(1, 4) .. 'note'
      .. swapped,
    ['au in the other order'] = 'dns.' .. le(24, 4) .. le(0, 4) .. le(3, 4) .. le(16000, 4) .. le(1, 4)
      .. PCM,
  }
  for name, bytes in pairs(streams) do
    for _, n in ipairs({ 1, 3, 7, 44, 45, 1000, 100000 }) do
      local got, s = feed(bytes, n)
      h.eq(s.err, nil, name)
      h.ok(got == PCM, ('%s in pieces of %d: %d bytes of %d'):format(name, n, #got, #PCM))
      h.eq({ s.rate, s.channels, s:seconds() }, { 16000, 1, 400 / 16000 }, name)
    end
  end
end)

test('rate and channels are those of the header', function()
  local _, s = feed(samples.wav(PCM, 48000, 2), 100)
  h.eq({ s.rate, s.channels, s:seconds() }, { 48000, 2, 200 / 48000 })
end)

test('what cannot be heard is one line', function()
  local cases = {
    { riff(fmt(3, 1, 16000, 32) .. 'data\0\0\0\0'), 'the recorder writes no 16-bit PCM' },
    { riff(fmt(1, 1, 16000, 24) .. 'data\0\0\0\0'), 'the recorder writes no 16-bit PCM' },
    { riff(fmt(1, 0, 16000, 16) .. 'data\0\0\0\0'), 'the recorder writes 0 channels at 16000 Hz' },
    { riff(fmt(1, 1, 5, 16) .. 'data\0\0\0\0'), 'the recorder writes 1 channels at 5 Hz' },
    { riff('data\0\0\0\0'), 'the recorder writes no 16-bit PCM' },
    { riff(('JUNK' .. le(99, 4) .. ('x'):rep(100)):rep(700)), 'the recorder writes a header without an end' },
    { '.snd' .. be(24, 4) .. be(0, 4) .. be(6, 4) .. be(16000, 4) .. be(1, 4),
      'the recorder writes no 16-bit PCM' },
  }
  for _, c in ipairs(cases) do
    local got, s = feed(c[1] .. PCM, 1000)
    h.eq({ got, s.err }, { '', c[2] })
  end
end)

test('a file that is written is read back', function()
  local got, s = feed(samples.wav(PCM, 44100, 1), 17)
  h.ok(got == PCM)
  h.eq(s.rate, 44100)
end)

return T
