--- catalog.lua: the published files that :Gemma install offers, with their sizes and sums.
---
--- Data only. Sizes and sums are those that the publishers' pages show; `revision` pins a file where
--- one is known, so that a new upload under the same name is noticed instead of trusted.

---@class gemma.catalog.File
---@field repo string
---@field revision string? main when nil
---@field file string name in the repository
---@field bytes integer
---@field sha256 string? nil: not published where we looked

---@class gemma.catalog.Model: gemma.catalog.File
---@field note string what it is, for the list: at most 22 characters
---@field mmproj gemma.catalog.File? what it needs for pictures and sounds

local UNSLOTH = 'unsloth/gemma-4-12b-it-GGUF'
local UNSLOTH_REVISION = 'fc034cfff751157913579611efad8462ac1be606'
local UNSLOTH_QAT = 'unsloth/gemma-4-12B-it-qat-GGUF'
local GOOGLE_QAT = 'google/gemma-4-12B-it-qat-q4_0-gguf'

---@param file string
---@param bytes integer
---@param sha256 string
---@return gemma.catalog.File
local function unsloth(file, bytes, sha256)
  return {
    repo = UNSLOTH,
    revision = UNSLOTH_REVISION,
    file = file,
    bytes = bytes,
    sha256 = sha256,
  }
end

-- stylua: ignore
local MMPROJ = unsloth('mmproj-BF16.gguf', 175115840,
  '2e269f906eb15169ee9ce880ea649bd6d42d4964c21f8ede10d0d0efc738bcbb')

---@param note string
---@param file gemma.catalog.File
---@return gemma.catalog.Model
local function plain(note, file)
  return vim.tbl_extend('error', file, { note = note, mmproj = MMPROJ })
end

---@type gemma.catalog.Model[]
return {
  {
    note = '4 bits, usual choice',
    repo = UNSLOTH_QAT,
    file = 'gemma-4-12B-it-qat-UD-Q4_K_XL.gguf',
    bytes = 6716356800,
    sha256 = '90fd44e29e0d7cffeb0fd00dc73cfdab9ed0b0e95306ecf7821ea634c940c370',
    mmproj = {
      repo = UNSLOTH_QAT,
      file = 'mmproj-BF16.gguf',
      bytes = 175115840,
      sha256 = 'dcb8103adad042b1bf99df767aaf34eb37c5a73a4a2f0417e4d7ba557e91664f',
    },
  },
  {
    note = 'by Google, text only',
    repo = GOOGLE_QAT,
    file = 'gemma-4-12b-it-qat-q4_0.gguf',
    bytes = 6975879296,
    sha256 = '93567e57a8fe10b23569b9d9ec38cd005deedf71e29477c421a4b83f418a538b',
  },
  -- stylua: ignore start
  plain('4 bits', unsloth('gemma-4-12b-it-Q4_K_M.gguf', 7121861440,
    '0a270ec9fe6b34f4a0d33992b6135117b484ebc4766ab76b51d4ae8c457e4c42')),
  plain('4 bits, parts more', unsloth('gemma-4-12b-it-UD-Q4_K_XL.gguf', 7366423360,
    '90fd944d227e9d9b68e7e2c7d5b57b79d4c66ed521b0919fbbd932cf834f6f8e')),
  plain('5 bits', unsloth('gemma-4-12b-it-UD-Q5_K_XL.gguf', 8606021440,
    'd9d55dbb17c73cf274cc1e701a1564a5b35ec03ffde474e7c6c93c3562d8d825')),
  plain('8 bits, the best', unsloth('gemma-4-12b-it-Q8_0.gguf', 12669647680,
    'f20e7ff1be28c283eeeb18fc895733791c56a5851d5cd3fe9691b7f7d12afa72')),
  plain('2 bits, small memory', unsloth('gemma-4-12b-it-UD-Q2_K_XL.gguf',
    4661419840, 'aa6e1ccf5cd1c5340c4786f0bda2478181327f14aba2359e51e455d02c90bff3')),
  -- stylua: ignore end
}
